#!/usr/bin/env python3
"""Every test that docs/security.md names must exist, one of each row must run everywhere, and no weakness may be missing.

    tools/check_weaknesses.py [ROOT]

Prints a line per name that is no test, and per row all of whose tests are left out where a model is not there that `./dev
setup` fetches, and per weakness of KNOWN that no row's first cell names; exits 1 if there is one.
"""
import pathlib
import re
import sys

CASE = re.compile(r'^TEST(?:_F|_P)?\((\w+), (\w+)\)', re.M)
NAME = re.compile(r'`([^`]+)`')
# As rows write them: CVE-2024-21802, -21825, a CVE's number after another one's of the same year.
CVES = re.compile(r'CVE-(\d{4})-(\d{4,})((?:, -\d{4,})*)')
# What other servers of this kind and what they are made of had, by year. A new one goes here first.
KNOWN = {
    2024: """2029 3135 5182 8063 9900 12055 12886 21802 21825 21836 23496 23605 28224 34359 37032 39720 42477 42478 42479 45436 48057
             50050""",
    2025: """0312 0315 0317 6242 29770 30165 44779 46728 48944 48956 49847 51471 52566 52887 53630 59425 62164 62426 63389""",
    2026: """3059 3060 3989 5497 5760 7020 7482 12773 21869 22778 22807 24779 27940 28435 34756 42208 42271 44222 45339 45349 45352
             45400 45401 45671 46527 53923""",
}

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


def weaknesses(text):
    """The CVEs that the first cells of the rows name."""
    cells = [line.strip('|').split('|')[0] for line in text.splitlines() if line.startswith('|')]
    for year, number, more in CVES.findall('\n'.join(cells)):
        yield from (f'CVE-{year}-{each}' for each in [number, *re.findall(r'\d+', more)])


def problems(root, known=None):
    page = root / 'docs/security.md'
    known = KNOWN if known is None else known
    named_there = set(weaknesses(page.read_text()))
    for cve in [f'CVE-{year}-{number}' for year, numbers in known.items() for number in numbers.split()]:
        if cve not in named_there:
            yield f'docs/security.md: no row names {cve}'
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
