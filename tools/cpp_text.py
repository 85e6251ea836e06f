"""Just enough C++ to measure functions and find words: no parser, no compiler."""
import re

TOKEN = re.compile(r'''
      (?P<line>//[^\n]*(?:\\\n[^\n]*)*)
    | (?P<block>/\*.*?\*/)
    | (?P<raw>R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)")
    | (?P<string>"(?:\\.|[^"\\\n])*")
    | (?P<char>(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+')
''', re.X | re.S)


def without_comments(text, keep_strings=False):
    """The same text, same lines and columns, with comments (and string contents) blanked."""
    def blank(match):
        token = match.group(0)
        if match.group('line') or match.group('block'):
            return re.sub(r'[^\n]', ' ', token)
        if keep_strings:
            return token
        return token[0] + re.sub(r'[^\n]', ' ', token[1:-1]) + token[-1]
    return TOKEN.sub(blank, text)


def without_preprocessor(code):
    return re.sub(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', lambda m: re.sub(r'[^\n]', ' ', m.group(0)), code, flags=re.M)


NOT_A_FUNCTION = re.compile(r'\b(namespace|class|struct|union|enum|extern)\b')
NAME = re.compile(r'(operator\s*(?:\(\)|\[\]|[^\s\w(]+|\w+)|~?\w+)\s*\(')


def functions(text):
    """(name, first line, lines) of every function body at namespace or class level; lambdas belong to what holds them."""
    code = without_preprocessor(without_comments(text))
    found, stack, head_start, line = [], [], 0, 1
    lines_at = [0]
    for match in re.finditer('\n', code):
        lines_at.append(match.end())
    for match in re.finditer(r'[{};\n]', code):
        char, at = match.group(0), match.start()
        if char == '\n':
            line += 1
            continue
        inside = bool(stack) and stack[-1][0] in ('function', 'value')
        if char == '{':
            kind, name = ('value', '') if inside else classify(code[head_start:at])
            stack.append((kind, name, line))
            if kind != 'value':
                head_start = at + 1
        elif char == '}' and stack:
            kind, name, first = stack.pop()
            if kind == 'function':
                found.append((name, first, line - first + 1))
            if kind != 'value':
                head_start = at + 1
        elif char == ';' and not inside:
            head_start = at + 1
    return found


def classify(head):
    """What the brace after `head` opens: ('scope' | 'function' | 'value', name)."""
    if head.count('(') != head.count(')'):  # a default argument
        return 'value', ''
    bare = re.sub(r'\b(?:template)\s*<[^{}]*?>(?=\s*(?:class|struct|union|requires|\w))', '', head)
    before_parenthesis = bare.split('(', 1)[0]
    if NOT_A_FUNCTION.search(before_parenthesis) and not NAME.search(NOT_A_FUNCTION.sub('', head.split(':')[0])):
        return 'scope', ''
    if '=' in re.sub(r'operator\s*[^\s\w(]+|[<>=!]=', '', before_parenthesis) or '(' not in head:
        return ('scope', '') if NOT_A_FUNCTION.search(head) else ('value', '')
    # A brace straight after a name in a constructor's initialiser list is that member's value.
    after = head[head.rindex(')') + 1:]
    if re.search(r'[:,]\s*[\w:<>]+\s*$', head) and re.search(r'\)\s*(?:noexcept\s*)?:[^:]', head) and not re.fullmatch(
            r'\s*(?:(?:const|noexcept|override|final|mutable|&&?|->\s*[\w:<>,\s*&]+)\s*)*', after):
        return 'value', ''
    name = next((m.group(1) for m in NAME.finditer(head) if m.group(1) not in ('requires', 'noexcept', 'decltype', 'alignas')), '?')
    return 'function', re.sub(r'\s+', '', name)


CO_AWAIT = re.compile(r'\bco_await\b')
LAMBDA = re.compile(r'(?<![\w\])])\[[^\[\]]*\]\s*(?:\(|\{|mutable\b|<)')


def co_await_problems(text):
    """(line, what) where a co_await is not alone in its statement with names and calls as operands."""
    code = without_preprocessor(without_comments(text))
    for match in CO_AWAIT.finditer(code):
        depth, end = 0, match.end()
        while end < len(code):
            char = code[end]
            if char in '([':
                depth += 1
            elif char in ')]':
                depth -= 1
                if depth < 0:
                    break
            elif char == ';' or char == '{' and depth == 0:
                break
            end += 1
        operand, line = code[match.end():end], code.count('\n', 0, match.start()) + 1
        if CO_AWAIT.search(operand):
            yield line, 'two co_await in one statement'
        elif code[end:end + 1] == '{' and re.search(r'[\w>]\s*$', operand) and not re.search(r'\)\s*$', operand):
            yield line, 'a braced value inside the co_await expression'
        elif LAMBDA.search(operand):
            yield line, 'a lambda inside the co_await expression'
        elif '{' in operand:
            yield line, 'a braced value inside the co_await expression'
