"""Seeds one breach of each house rule and expects it to be found, and nothing else."""
import pathlib
import tempfile
import unittest

import check_style
import cpp_text

README = '# widget\n' * 10
SOUND = {
    'src/widget/CMakeLists.txt': 'hearth_module(widget LAYER 1\n  HEADERS widget.h\n  SOURCES widget.cpp)\n',
    'src/widget/README.md': README,
    'src/widget/widget.h': '// Widget: a thing.\n#pragma once\n\nint widget();\n',
    'src/widget/widget.cpp': '#include "widget/widget.h"\n\nint widget() { return 1; }\n',
}


def problems(**changes):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (SOUND | changes).items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_style.Checker(pathlib.Path(folder)).run()


class CheckStyle(unittest.TestCase):
    def expect_one(self, needle, **changes):
        found = problems(**changes)
        self.assertEqual(len(found), 1, found)
        self.assertIn(needle, found[0])

    def expect_banned(self, code, path='src/widget/widget.cpp', extra=None):
        self.expect_one('is banned', **({path: f'#include "widget/widget.h"\n\n{code}\n'} | (extra or {})))

    def test_a_sound_tree_has_no_problem(self):
        self.assertEqual(problems(), [])

    def test_each_banned_thing_is_found(self):
        for code in ('std::regex r;', 'int x = rand();', 'void f() { std::cout << 1; }', 'void f() { printf("x"); }',
                     'char const* f() { return std::getenv("X"); }', 'void f() { throw 1; }', '#include <format>',
                     'int f() { return std::stoi("1"); }', 'void f(std::thread& t) { t.detach(); }',
                     'int x = 1;  // NOLINT'):
            with self.subTest(code):
                self.expect_banned(code)

    def test_banned_words_in_comments_and_strings_are_only_words(self):
        text = '#include "widget/widget.h"\n// std::regex, throw, rand()\nchar const* x = "std::regex throw rand()";\n'
        self.assertEqual(problems(**{'src/widget/widget.cpp': text}), [])

    def test_sleeping_is_banned_in_tests(self):
        listing = {'src/widget/CMakeLists.txt': SOUND['src/widget/CMakeLists.txt'] + '# widget_test.cpp\n'}
        self.expect_banned('void f() { std::this_thread::sleep_for(x); }', 'src/widget/widget_test.cpp', listing)

    def test_app_may_print_and_read_the_environment(self):
        app = {name.replace('widget', 'app', 1): text.replace('widget/', 'app/') for name, text in SOUND.items()}
        app['src/app/widget.cpp'] = '#include "app/widget.h"\nvoid f() { std::puts(std::getenv("X")); }\n'
        self.assertEqual(problems(**app), [])

    def test_a_long_file_and_a_long_function_are_found(self):
        self.expect_one('file has 601 lines', **{'src/widget/widget.cpp': '#include "widget/widget.h"\n' + '\n' * 600})
        body = 'int widget() {\n' + '    step();\n' * 69 + '}\n'
        self.expect_one('function widget has 71 lines', **{'src/widget/widget.cpp': '#include "widget/widget.h"\n' + body})

    def test_the_allow_list_lets_pass_what_it_names_and_only_shrinks(self):
        body = '#include "widget/widget.h"\nint widget() {\n' + '    step();\n' * 69 + '}\n'
        entry = '[[function]]\npath = "src/widget/widget.cpp"\nname = "widget"\nlines = {}\nreason = "{}"\n'
        allow = 'tools/style_allow.toml'
        self.assertEqual(problems(**{'src/widget/widget.cpp': body, allow: entry.format(71, 'a flat table')}), [])
        self.expect_one('lower its 80', **{'src/widget/widget.cpp': body, allow: entry.format(80, 'a flat table')})
        self.expect_one('does not exist', **{allow: entry.format(71, 'a table').replace('"widget"', '"gone"')})
        self.expect_one('delete its entry', **{allow: entry.format(71, 'a flat table')})
        self.expect_one('needs a reason', **{'src/widget/widget.cpp': body, allow: entry.format(71, '')})
        self.expect_one('at most 70', **{'src/widget/widget.cpp': body})

    def test_an_exempted_word_passes_and_an_idle_exemption_does_not(self):
        entry = '[[banned]]\npath = "src/widget/widget.cpp"\nwhat = "throw"\nreason = "the adaptor"\n'
        code = '#include "widget/widget.h"\nvoid f() { throw 1; }\n'
        self.assertEqual(problems(**{'src/widget/widget.cpp': code, 'tools/style_allow.toml': entry}), [])
        self.expect_one('does not exist', **{'tools/style_allow.toml': entry})

    def test_what_every_text_must_keep(self):
        source = SOUND['src/widget/widget.cpp']
        promise = 'TO' + 'DO'
        for text, needle in ((source + 'int a;  \n', 'blanks at the end'), (source + '\tint a;\n', 'a tab'),
                             (source + f'// {"x" * 120}\n', '123 columns'), (source + f'// {promise}: later\n', 'promise'),
                             (source + '// see /home/me/notes\n', 'absolute path'), (source.rstrip(), 'no newline')):
            with self.subTest(needle):
                self.expect_one(needle, **{'src/widget/widget.cpp': text})
        self.assertEqual(problems(**{'src/widget/widget.cpp': source + f'// {promise}(#12): later\n'}), [])

    def test_a_table_may_be_wider(self):
        source = SOUND['src/widget/widget.cpp']
        for width, after, needle in ((170, '', None), (180, '', '183 columns'), (10, f'// {"x" * 120}\n', '123 columns')):
            text = source + '// clang-format off\n// ' + 'x' * width + '\n// clang-format on\n' + after
            with self.subTest(width):
                if needle:
                    self.expect_one(needle, **{'src/widget/widget.cpp': text})
                else:
                    self.assertEqual(problems(**{'src/widget/widget.cpp': text}), [])

    def test_a_header_opens_with_its_contract(self):
        self.expect_one('opens with a comment', **{'src/widget/widget.h': '#pragma once\n\nint widget();\n'})
        self.expect_one('#pragma once', **{'src/widget/widget.h': '// Widget.\nint widget();\n'})

    def test_a_module_has_a_readme_a_build_file_and_no_dead_file(self):
        self.expect_one('2 lines', **{'src/widget/README.md': 'a\nb\n'})
        self.expect_one('neither built nor included', **{'src/widget/extra.cpp': '\n'})
        self.expect_one('no CMakeLists.txt', **{'src/lonely/a.cpp': '\n'})

    def test_a_link_leads_somewhere(self):
        self.expect_one('link to gone.md', **{'src/widget/README.md': README + '[x](gone.md)\n'})
        self.assertEqual(problems(**{'src/widget/README.md': README + '[x](widget.h#top) [y](https://example.org)\n'}), [])


class Functions(unittest.TestCase):
    def names(self, text):
        return [(name, lines) for name, _, lines in cpp_text.functions(text)]

    def test_bodies_are_measured_with_what_is_nested_in_them(self):
        text = 'namespace a {\nclass B {\n    int f() const {\n        auto g = [] {\n            return 1;\n        };\n' \
               '        return g();\n    }\n};\n}\nint h() { return 1; }\n'
        self.assertEqual(self.names(text), [('f', 6), ('h', 1)])

    def test_constructors_with_braced_members_are_one_function(self):
        text = 'B::B(int a) : x_{a}, y_(b), z_{} {\n    f();\n    g();\n}\n'
        self.assertEqual(self.names(text), [('B', 4)])

    def test_values_and_types_are_no_functions(self):
        text = 'int const table[] = {\n1,\n};\nstruct S { int a = 1; std::vector<int> b{1}; };\nenum class E : int { a };\n' \
               'void f(Options o = {});\nstatic auto const x = make({1, 2});\n'
        self.assertEqual(self.names(text), [])

    def test_templates_requirements_and_operators_are_functions(self):
        text = 'template <typename T>\n    requires(std::is_integral_v<T>)\nT read() {\n    return {};\n}\n' \
               'bool operator==(A const& a, B const& b) {\n    return a.x == b.x;\n}\n'
        self.assertEqual(self.names(text), [('read', 3), ('operator==', 3)])

    def test_braces_in_comments_strings_and_macros_do_not_count(self):
        text = '#define M(x) \\\n    do { \\\n    } while (0)\nvoid f() {\n    // }\n    g("}", \'}\', R"(})");\n}\n'
        self.assertEqual(self.names(text), [('f', 4)])


class CoAwait(unittest.TestCase):
    def findings(self, statement):
        return [what for _, what in cpp_text.co_await_problems(f'Task f() {{\n    {statement}\n}}\n')]

    def test_names_and_calls_are_fine(self):
        for statement in ('co_await g();', 'auto x = co_await g(a, h(b));', 'if (co_await g()) { k(); }',
                          'co_await exchange.send(std::move(response));', 'while (co_await g()) h([] { return 1; });',
                          'HEARTH_CO_TRY(auto x, co_await g(a[1]));', 'for (auto& x : co_await g()) { h(x); }'):
            with self.subTest(statement):
                self.assertEqual(self.findings(statement), [])

    def test_lambdas_braces_and_pairs_are_not(self):
        for statement in ('co_await g([&] { return 1; });', 'co_await g(Response{1, 2});', 'co_await g({1, 2});',
                          'co_await g(co_await h());', 'co_await Sleep{1};'):
            with self.subTest(statement):
                self.assertEqual(len(self.findings(statement)), 1)


if __name__ == '__main__':
    unittest.main()
