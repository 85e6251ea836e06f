#!/usr/bin/env python3
"""Every test that docs/security.md names must exist, and one of each row must run everywhere.

    tools/check_weaknesses.py [ROOT]

Prints a line per name that is no test, and per row all of whose tests are left out where a model is not there that `./dev
setup` fetches; exits 1 if there is one.
"""
import pathlib
import re
import sys

CASE = re.compile(r'^TEST(?:_F|_P)?\((\w+), (\w+)\)', re.M)
NAME = re.compile(r'`([^`]+)`')


SKIPS = re.compile(r'^class (\w+)[^{;]*\{(?:(?!^\};).)*GTEST_SKIP', re.M | re.S)
FETCHED = re.compile(r'^def (test_\w+)\([^)]*smollm2', re.M)


def tests_of(root):
    names = set()
    for path in [*root.glob('src/**/*_test.cpp'), *root.glob('tests/**/*.cpp')]:
        names |= {f'{suite}.{case}' for suite, case in CASE.findall(path.read_text())}
    for path in root.glob('tests/integration/test_*.py'):
        names |= {f'{path.name}::{name}' for name in re.findall(r'^def (test_\w+)', path.read_text(), re.M)}
    names |= {f'{path.parent.name}/{path.stem}' for path in root.glob('tests/conformance/*/*.case')}
    names |= {f'compile_fail/{path.stem}' for path in root.glob('tests/compile_fail/*.cpp')}
    return names


def skipped_somewhere(root):
    """Suites, and tests in Python, that need a model which may not be there."""
    names = set()
    for path in root.glob('src/**/*_test.cpp'):
        names |= set(SKIPS.findall(path.read_text()))
    for path in root.glob('tests/integration/test_*.py'):
        names |= {f'{path.name}::{name}' for name in FETCHED.findall(path.read_text())}
    return names


def named(text):
    """The names in the last cell of each row, with the line they stand on."""
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        if not line.startswith('|') or len(cells) != 3 or cells[2] in ('tests', '---'):
            continue
        found = NAME.findall(cells[2])
        yield from ((number, name) for name in found or [''])


def problems(root):
    page = root / 'docs/security.md'
    tests, skipped = tests_of(root), skipped_somewhere(root)
    rows = {}
    for number, name in named(page.read_text()):
        rows.setdefault(number, []).append(name)
        if name not in tests:
            yield f'docs/security.md:{number}: ' + (f'there is no test {name}' if name else 'a rule without a test')
    for number, names in rows.items():
        if all(name in skipped or name.split('.')[0] in skipped for name in names):
            yield f'docs/security.md:{number}: every test of this row is left out where a model is not there'


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    found = list(problems(root))
    print(*found, sep='\n', end='\n' if found else '')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
