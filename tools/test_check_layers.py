"""Seeds each violation of the layering into a small tree and expects exactly one finding."""
import pathlib
import tempfile
import unittest

import check_layers

MODULES = {
    # name: (layer, public deps, private deps, public headers, test deps)
    'base': (0, '', '', 'result.h', ''),
    'net': (1, 'base', '', 'loop.h', ''),
    'http': (2, 'base', 'net', 'server.h', ''),
}
SOURCES = {
    'base/result.h': '',
    'base/detail.h': '',
    'net/loop.h': '#include "base/result.h"\n',
    'http/server.h': '#include <string>\n#include "base/result.h"\n',
    'http/server.cpp': '#include "http/server.h"\n#include "net/loop.h"\n',
}


class CheckLayers(unittest.TestCase):
    def problems(self, modules=None, sources=None):
        with tempfile.TemporaryDirectory() as folder:
            src = pathlib.Path(folder) / 'src'
            for name, text in (SOURCES | (sources or {})).items():
                (src / name).parent.mkdir(parents=True, exist_ok=True)
                (src / name).write_text(text)
            listing = pathlib.Path(folder) / 'modules.txt'
            rows = ('|'.join((name, *map(str, row))) for name, row in (MODULES | (modules or {})).items())
            listing.write_text(';'.join(rows) + '\n')
            return check_layers.check(check_layers.load(listing), src)

    def expect_one(self, needle, **seed):
        problems = self.problems(**seed)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(needle, problems[0])

    def test_a_sound_tree_has_no_problem(self):
        self.assertEqual(self.problems(), [])

    def test_a_dependency_must_be_a_module(self):
        self.expect_one('net depends on boost, which is no module', modules={'net': (1, 'base;boost', '', 'loop.h', '')})

    def test_a_layer_may_not_depend_on_its_own_or_a_higher_one(self):
        self.expect_one('net (layer 1) may not depend on http (layer 2)', modules={'net': (1, 'base;http', '', 'loop.h', '')})

    def test_an_include_must_be_of_a_declared_module(self):
        self.expect_one('net does not declare http', sources={'net/loop.cpp': '#include "http/server.h"\n'})

    def test_another_modules_private_header_is_out_of_reach(self):
        self.expect_one('private to base', sources={'net/loop.cpp': '#include "base/detail.h"\n'})

    def test_a_public_header_may_not_use_a_private_dependency(self):
        self.expect_one('http does not declare net', sources={'http/server.h': '#include "net/loop.h"\n'})

    def test_shared_fakes_are_for_tests(self):
        self.assertEqual(self.problems(sources={'net/loop_test.cpp': '#include "testing/fake.h"\n'}), [])
        self.expect_one('not of the form', sources={'net/loop.cpp': '#include "testing/fake.h"\n'})

    def test_an_include_has_the_form_module_slash_file(self):
        self.expect_one('not of the form', sources={'net/loop.cpp': '#include "loop.h"\n'})

    def test_a_test_dependency_is_for_tests_alone(self):
        modules = {'http': (2, 'base', '', 'server.h', 'net')}
        self.assertEqual(self.problems(modules, {'http/server.cpp': '', 'http/server_test.cpp': '#include "net/loop.h"\n'}), [])
        self.expect_one('http does not declare net', modules=modules)


if __name__ == '__main__':
    unittest.main()
