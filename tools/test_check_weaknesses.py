"""A page whose names exist passes; a name that is no test, and a rule without one, are found."""
import pathlib
import tempfile
import unittest

import check_weaknesses

PAGE = '# Page with `Code.Like`\n\n| weakness | rule | tests |\n|---|---|---|\n| a | b | {} |\n'


class CheckWeaknesses(unittest.TestCase):
    def problems(self, cell, known=None, page=PAGE):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in {
                    'docs/security.md': page.format(cell),
                    'src/a/a_test.cpp': 'TEST_F(Suite, Case) {\n',
                    'tests/integration/test_a.py': 'def test_one():\n    pass\n',
                    'tests/conformance/openai/n.case': '',
            }.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return list(check_weaknesses.problems(root, known or {}))

    def test_every_kind_of_name_is_found(self):
        self.assertEqual(self.problems('`Suite.Case`, `test_a.py::test_one`, `openai/n`'), [])

    def test_names_of_no_test_are_problems(self):
        for name in ('Suite.Other', 'test_a.py::test_two', 'ollama/n'):
            self.assertEqual(self.problems(f'`Suite.Case`, `{name}`'), [f'docs/security.md:5: there is no test {name}'])

    def test_a_rule_without_a_test_is_a_problem(self):
        self.assertEqual(self.problems('none yet'), ['docs/security.md:5: a rule without a test'])

    def test_a_weakness_that_no_row_names_is_a_problem(self):
        page = PAGE.replace('| a |', '| CVE-2024-1111, -2222, CVE-2025-3333: this and CVE-2025-44444 |') + '\nCVE-2026-5555\n'
        known = {2024: '1111 2222', 2025: '3333\n44444'}
        self.assertEqual(self.problems('`Suite.Case`', known, page), [])
        known = {2024: '1111 3333', 2026: '5555'}
        self.assertEqual(self.problems('`Suite.Case`', known, page),
                         ['docs/security.md: no row names CVE-2024-3333', 'docs/security.md: no row names CVE-2026-5555'])


if __name__ == '__main__':
    unittest.main()
