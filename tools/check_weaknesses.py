#!/usr/bin/env python3
"""Every test that docs/security.md names must exist.

    tools/check_weaknesses.py [ROOT]

Prints a line per name that is no test and exits 1 if there is one.
"""
import pathlib
import re
import sys

CASE = re.compile(r'^TEST(?:_F|_P)?\((\w+), (\w+)\)', re.M)
NAME = re.compile(r'`([^`]+)`')


def tests_of(root):
    names = set()
    for path in [*root.glob('src/**/*_test.cpp'), *root.glob('tests/**/*.cpp')]:
        names |= {f'{suite}.{case}' for suite, case in CASE.findall(path.read_text())}
    for path in root.glob('tests/integration/test_*.py'):
        names |= {f'{path.name}::{name}' for name in re.findall(r'^def (test_\w+)', path.read_text(), re.M)}
    names |= {f'{path.parent.name}/{path.stem}' for path in root.glob('tests/conformance/*/*.case')}
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
    tests = tests_of(root)
    for number, name in named(page.read_text()):
        if name not in tests:
            yield f'docs/security.md:{number}: ' + (f'there is no test {name}' if name else 'a rule without a test')


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    found = list(problems(root))
    print(*found, sep='\n', end='\n' if found else '')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
