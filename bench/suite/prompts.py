"""Prompts, the same in every run: texts of a length, and the sets for speculation, cut from public data in ../shared/data."""
import json
import pathlib
import random
import re

from .process import MeasureError

# Common English words, each a token of its own in most vocabularies.
WORDS = ('time year people way day man thing woman life child world school state family student group country problem hand part place case '
         'week company system program question work government number night point home water room mother area money story fact month lot '
         'right study book eye job word business issue side kind head house service friend father power hour game line end member law car '
         'city name team minute idea body back parent face others level office door health person art war history party result change '
         'morning reason research girl guy moment air teacher force education').split()
SET_SIZE = 12  # prompts of a set
COPY_WORDS = (70, 130)  # of a text to copy


def words(count, seed):
    """`count` words, the same for the same seed."""
    return ' '.join(random.Random(f'words {seed}').choices(WORDS, k=count))


def conversation(system, question):
    return [{'role': 'system', 'content': system}, {'role': 'user', 'content': question}]


def read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        raise MeasureError(f'{path} is not there: the prompts are cut from it') from None


def lines_of(path):
    return [json.loads(line) for line in read(path).splitlines() if line.strip()]


def paragraphs(text, count):
    """The first paragraphs of WikiText of the right length, with its marks taken out."""
    found = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith('=') or '<unk>' in line or not COPY_WORDS[0] <= len(line.split()) <= COPY_WORDS[1]:
            continue
        line = re.sub(r' @(.)@ ', r'\1', line)
        line = re.sub(r' ([,.;:!?)\]\'])', r'\1', line.replace('( ', '('))
        found.append(line)
        if len(found) == count:
            return found
    raise MeasureError(f'only {len(found)} paragraphs of {COPY_WORDS[0]} to {COPY_WORDS[1]} words without gaps; {count} are needed')


def functions(rows, count):
    """The first function descriptions with at least three parameters, each name once."""
    found = {}
    for row in rows:
        for function in row['function']:
            if len(function['parameters']['properties']) >= 3:
                found.setdefault(function['name'], function)
        if len(found) >= count:
            return list(found.values())[:count]
    raise MeasureError(f'only {len(found)} functions of three parameters or more; {count} are needed')


def code(function):
    """A function description as Python."""
    name = function['name'].rsplit('.', 1)[-1]
    properties = function['parameters']['properties']
    lines = [f'def {name}({", ".join(properties)}):', f'    """{function["description"]}"""']
    for parameter in properties:
        lines += [f'    if {parameter} is None:', f'        raise ValueError("{parameter} is missing")']
    return '\n'.join([*lines, f'    return compute({", ".join(properties)})'])


def copy_set(data):
    """[(prompt, tokens)]: rewriting a text, repeating JSON with one change, editing code; a third each."""
    each = SET_SIZE // 3
    eval_folder = pathlib.Path(data) / 'eval'
    texts = paragraphs(read(eval_folder / 'wikitext2_test.txt'), each)
    described = functions(lines_of(eval_folder / 'bfcl' / 'BFCL_v4_simple_python.json'), 2 * each)
    prompts = []
    for text, as_json, as_code in zip(texts, described[:each], described[each:]):
        prompts.append((f'Repeat the following text word for word, and write nothing else.\n\n{text}', 160))
        indented = json.dumps({**as_json, 'name': 'old_name'}, indent=2)
        prompts.append((f'Repeat this JSON, but with "new_name" in place of "old_name".\n\n```json\n{indented}\n```', 160))
        prompts.append((f'Repeat this code, but call the function "run".\n\n```python\n{code(as_code)}\n```', 160))
    return prompts


def chat_set(data):
    """[(prompt, tokens)]: questions that want a new text; half sums in words, half instructions."""
    eval_folder = pathlib.Path(data) / 'eval'
    half = SET_SIZE // 2
    asked = [row['question'] for row in lines_of(eval_folder / 'gsm8k_test.jsonl')[:half]]
    asked += [row['prompt'] for row in lines_of(eval_folder / 'ifeval.jsonl')[:half]]
    if len(asked) < SET_SIZE:
        raise MeasureError(f'only {len(asked)} questions; {SET_SIZE} are needed')
    return [(text, 96) for text in asked]
