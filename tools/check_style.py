#!/usr/bin/env python3
"""The house rules that a program can check: sizes, banned things, what every module must have.

    tools/check_style.py [ROOT]

Prints one line per problem and exits 1 if there is one. What may exceed a size is listed with its reason in
tools/style_allow.toml; an entry that is not needed any more, or allows more than needed, is a problem too, so the list
only shrinks.
"""
import ast
import math
import pathlib
import re
import sys
import tomllib

from cpp_text import co_await_problems, functions, without_comments

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
TABLE_COLUMNS_MAX = 180  # between clang-format off and on: a table reads best with one row per line
COLUMNS_MAX = {'.h': 120, '.cpp': 120, '.py': 140, '.sh': 140, '.cmake': 140}
README_LINES = (8, 40)
SKIPPED_FOLDERS = {'.git', 'build', 'results', '__pycache__', '.venv', 'corpus', 'node_modules'}
CODE = {'.h', '.cpp', '.py', '.sh', '.cmake'}
TEXT = CODE | {'.md', '.txt', '.toml', '.json', '.lock', '.yml', ''}


class Ban:
    """A pattern, where it is forbidden, and what to write instead."""

    def __init__(self, pattern, instead, where, strings=False):
        self.pattern, self.instead, self.where, self.strings = re.compile(pattern), instead, where, strings


def in_source(path):  # production code, our C++ only
    return path.startswith('src/') and path.endswith(('.h', '.cpp')) and not is_test(path)


def is_test(path):
    return path.endswith('_test.cpp') or '/testing/' in path or path.startswith('tests/')


def in_tests(path):
    return is_test(path) and path.endswith(('.h', '.cpp'))


def in_headers(path):
    return in_source(path) and path.endswith('.h')


def in_cpp(path):
    return path.endswith(('.h', '.cpp'))


def below_app(path):
    return in_source(path) and not path.startswith(('src/app/', 'src/bench/'))


def outside_app(path):
    return in_source(path) and not path.startswith('src/app/')


BANS = [
    Ban(r'\bstd::w?(regex|smatch|cmatch)\b', 'a hand-written scanner: std::regex recurses per character', in_cpp),
    Ban(r'(?<![\w.:>])(?:std::)?s?rand\s*\(', '<random> with an explicit seed', in_cpp),
    Ban(r'\bstd::c(out|err|log)\b|#\s*include\s*<iostream>', 'telemetry::Log, or fmt to a file in app', below_app),
    Ban(r'(?<![\w.>])(?:std::)?(?:printf|puts|putchar|vprintf)\s*\(|\bstdout\b', 'telemetry::Log; only app writes to stdout', below_app),
    Ban(r'\bsleep_(for|until)\b|(?<![\w.>])(?:::)?u?sleep\s*\(|\bnanosleep\s*\(', 'a ManualClock, a condition or a bounded wait', in_tests),
    Ban(r'\b(secure_)?getenv\s*\(', 'a field of the module\'s Options, filled by app', outside_app),
    Ban(r'\bthrow\b(?!\s*;)', 'Result: no exception crosses a module', in_source),
    Ban(r'#\s*include\s*<(format|expected|print|cassert|assert\.h)>', '<fmt/format.h>, base/result.h, base/assert.h', in_cpp),
    Ban(r'(?<![\w.>])(?:std::)?(atoi|atol|atof|sto(i|l|ul|ll|ull|f|d|ld))\s*\(', 'std::from_chars, which says when it fails', in_source),
    Ban(r'\.detach\s*\(\s*\)', 'a thread that somebody joins', in_source),
    Ban(r'\busing\s+namespace\b', 'the name in full, or a using-declaration in a .cpp', in_headers),
    Ban(r'\bstd::endl\b', '"\\n"', in_cpp),
    Ban(r'\bDISABLED_\w', 'a test that runs, or none', in_cpp),
    Ban(r'\bNOLINT\b(?!.*:)|\bNOLINTNEXTLINE\b(?!.*:)', 'NOLINT(check): reason', in_cpp, strings=True),
]
ABSOLUTE_PATH = re.compile(r'''(?<![\w.~)}])/(?:home|root|Users|work|mnt)/[A-Za-z0-9_.-]+''')
PROMISE = re.compile(r'\b(?:TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))')


def files(root):
    found = []
    for path in sorted(root.rglob('*')):
        relative = path.relative_to(root)
        if path.is_file() and not path.is_symlink() and not SKIPPED_FOLDERS & set(relative.parts[:-1]):
            found.append(relative.as_posix())
    return found


class Checker:
    def __init__(self, root):
        self.root, self.problems = root, []
        self.files = files(root)
        self.allowed = self.read_allowed()
        self.used = set()

    def report(self, where, what):
        self.problems.append(f'{where}: {what}')

    def read_allowed(self):
        path = self.root / 'tools/style_allow.toml'
        rows = tomllib.loads(path.read_text()) if path.exists() else {}
        allowed = {}
        for row in rows.get('function', []) + rows.get('file', []) + rows.get('banned', []):
            if not row.get('reason', '').strip():
                self.report('tools/style_allow.toml', f'{row.get("path")} needs a reason')
        for row in rows.get('function', []) + rows.get('file', []):
            allowed[row['path'], row.get('name')] = row['lines']
        for row in rows.get('banned', []):
            allowed[row['path'], 'banned ' + row['what']] = 0
        return allowed

    def size(self, path, name, lines, maximum, where):
        allowed = self.allowed.get((path, name))
        if allowed is not None:
            self.used.add((path, name))
            if lines <= maximum:
                self.report('tools/style_allow.toml', f'{path} {name or ""} has {lines} lines now: delete its entry')
            elif lines < allowed:
                self.report('tools/style_allow.toml', f'{path} {name or ""} has {lines} lines now: lower its {allowed}')
        if lines > max(maximum, allowed or 0):
            what = f'function {name}' if name else 'file'
            self.report(where, f'{what} has {lines} lines, at most {allowed or maximum} are allowed: split it by what its parts are for')

    # --- one file ---

    def check_text(self, path, text):
        usual_max = COLUMNS_MAX.get(pathlib.Path(path).suffix, math.inf)
        in_table = False
        for number, line in enumerate(text.split('\n'), 1):
            if line != line.rstrip():
                self.report(f'{path}:{number}', 'blanks at the end of the line')
            if '\t' in line:
                self.report(f'{path}:{number}', 'a tab')
            if line.strip() in ('// clang-format off', '// clang-format on'):
                in_table = line.endswith('off')
            columns_max = max(usual_max, TABLE_COLUMNS_MAX) if in_table else usual_max
            if len(line) > columns_max:
                self.report(f'{path}:{number}', f'{len(line)} columns, at most {columns_max}')
            if not path.startswith('tools/check_style.py') and not path.startswith('tools/test_') and PROMISE.search(line):
                self.report(f'{path}:{number}', 'a promise without an issue; write TODO(#number), or do it')
            if ABSOLUTE_PATH.search(line) and not path.startswith('tools/test_'):
                self.report(f'{path}:{number}', 'an absolute path of one machine')
        if text and not text.endswith('\n'):
            self.report(path, 'no newline at the end')
        if '\r' in text:
            self.report(path, 'carriage returns')

    def check_bans(self, path, text):
        code, with_strings = without_comments(text), text
        for ban in BANS:
            if not ban.where(path):
                continue
            for match in ban.pattern.finditer(with_strings if ban.strings else code):
                line = text.count('\n', 0, match.start()) + 1
                exempt = path, 'banned ' + match.group(0).strip()
                if exempt in self.allowed:
                    self.used.add(exempt)
                    continue
                self.report(f'{path}:{line}', f'"{match.group(0).strip()}" is banned: use {ban.instead}')

    def check_cpp(self, path, text):
        for name, line, lines in functions(text):
            self.size(path, name, lines, FUNCTION_LINES_MAX, f'{path}:{line}')
        for line, what in co_await_problems(text):
            self.report(f'{path}:{line}', f'{what}: see CONTRIBUTING.md, "Coroutines"')
        ours = path.endswith('.h') and path.startswith(('src/', 'tests/'))
        if ours and not re.match(r'//', text):
            self.report(path, 'a header opens with a comment: what it is, threads, ownership, limits')
        if ours and '#pragma once' not in text:
            self.report(path, 'no #pragma once')

    def check_python(self, path, text):
        for node in ast.walk(ast.parse(text, path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.size(path, node.name, node.end_lineno - node.lineno + 1, FUNCTION_LINES_MAX, f'{path}:{node.lineno}')

    # --- the tree ---

    def check_modules(self):
        names = {f.split('/')[1] for f in self.files if f.startswith('src/') and f.count('/') >= 2}
        for module in sorted(names):
            folder = f'src/{module}'
            if f'{folder}/CMakeLists.txt' not in self.files:
                self.report(folder, 'no CMakeLists.txt')
                continue
            if f'{folder}/README.md' not in self.files:
                self.report(folder, 'no README.md: purpose, entry header, invariants')
            else:
                lines = (self.root / folder / 'README.md').read_text().count('\n')
                if not README_LINES[0] <= lines <= README_LINES[1]:
                    self.report(f'{folder}/README.md', f'{lines} lines; {README_LINES[0]} to {README_LINES[1]} are what a reader needs')
            self.check_listed(folder)

    def check_listed(self, folder):
        """A source that nothing builds or a header that nothing includes is dead."""
        listed = ' '.join((self.root / f).read_text() for f in self.files
                          if f.startswith(folder + '/') and f.endswith(('CMakeLists.txt', '.cmake')))
        inside = [f for f in self.files if f.startswith(folder + '/') and f.endswith(('.h', '.cpp'))]
        includes = set(re.findall(r'#\s*include\s+"([^"]+)"', '\n'.join((self.root / f).read_text() for f in self.files if in_cpp(f))))
        words = set(re.split(r'[\s()";]+', listed))
        shared = ' '.join((self.root / f).read_text() for f in self.files if f.startswith('cmake/') and f.endswith('.cmake'))
        for file in inside:
            own = file[len(folder) + 1:]
            if own in words or file in shared or (file.endswith('.h') and file[len('src/'):] in includes):
                continue
            self.report(file, 'neither built nor included: list it in CMakeLists.txt or delete it')

    def check_links(self, path, text):
        prose = re.sub(r'```.*?```', '', text, flags=re.S)
        for target in re.findall(r'\]\(([^)\s]+)\)', prose):
            if re.match(r'[a-z]+:', target) or target.startswith('#'):
                continue
            file = (self.root / path).parent / target.split('#')[0]
            if not file.exists():
                self.report(path, f'link to {target}, which does not exist')

    def run(self):
        for path in self.files:
            suffix = pathlib.Path(path).suffix
            if suffix not in TEXT or path == 'LICENSE':
                continue
            try:
                text = (self.root / path).read_text()
            except UnicodeDecodeError:
                self.report(path, 'is not UTF-8')
                continue
            self.check_text(path, text)
            if suffix in CODE:
                self.size(path, None, text.count('\n'), FILE_LINES_MAX, path)
            if in_cpp(path):
                self.check_bans(path, text)
                self.check_cpp(path, text)
            elif suffix == '.py':
                self.check_python(path, text)
            elif suffix == '.md':
                self.check_links(path, text)
        self.check_modules()
        for path, name in sorted(set(self.allowed) - self.used, key=str):
            self.report('tools/style_allow.toml', f'{path} {name or ""} does not exist: delete its entry')
        return self.problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    problems = Checker(root).run()
    print(*problems, sep='\n')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
