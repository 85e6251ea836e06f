"""./dev where it decides without building: usage, packages, the sum of test results. dpkg, apt and ctest are stand-ins."""
import os
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ('bash', 'cat', 'dirname', 'env', 'find', 'grep', 'mkdir', 'nproc', 'readlink', 'rm', 'sed', 'sort', 'tr', 'xargs')


class Dev(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = pathlib.Path(folder.name)
        self.bin = self.home / 'bin'
        self.bin.mkdir()
        for name in PROGRAMS:
            self.bin.joinpath(name).symlink_to(subprocess.check_output(['sh', '-c', f'command -v {name}'], text=True).strip())

    def program(self, name, script):
        path = self.bin / name
        path.write_text(f'#!/usr/bin/env bash\n{script}\n')
        path.chmod(0o755)

    def debian(self, installed, known=None):
        rows = ''.join(f'{name} installed\\n' for name in installed)
        self.program('dpkg-query', f"printf '{rows}'; exit 1")  # it exits 1 when it does not know one of the names
        self.program('apt-cache', 'exit 0' if known is None else f'[[ " {" ".join(known)} " == *" $2 "* ]]')
        self.program('apt-get', f'echo "$@" >>{self.home}/apt.log')

    def installed_by_apt(self):
        log = self.home / 'apt.log'
        calls = log.read_text().splitlines() if log.exists() else []
        return [word for call in calls if ' install ' in call for word in call.split(' install ')[1].split() if not word.startswith('-')]

    def bash(self, script, **environment):
        """Runs `script` after ./dev was read; its commands are functions then."""
        return subprocess.run(['bash', '-c', f'source {ROOT}/dev\n{script}'], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              env={'PATH': str(self.bin), 'HOME': str(self.home), **environment}, timeout=60)

    def dev(self, *arguments):
        return subprocess.run([ROOT / 'dev', *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd='/',
                              env={'PATH': str(self.bin), 'HOME': str(self.home)}, timeout=60)

    def test_help_names_every_command_and_needs_nothing(self):
        result = self.dev('--help')
        self.assertEqual(result.returncode, 0, result.stderr)
        for command in ('setup', 'run', 'test', 'build', 'lint', 'bench', 'fuzz', 'clean'):
            self.assertIn(f'\n  {command} ', result.stdout)
        self.assertEqual(self.dev().stdout, result.stdout)
        self.assertEqual(self.dev('test', '--help').stdout, result.stdout)

    def test_wrong_usage_exits_2_and_says_what_is_wrong(self):
        for arguments in (['rnu'], ['test', '--fast'], ['test', '--preset', 'msan'], ['test', '--preset'], ['clean', '--al'],
                          ['build', 'x'], ['setup', 'x'], ['fuzz', 'nothing'], ['fuzz', 'gguf', 'soon'], ['fuzz', '0'], ['lint', '--no']):
            with self.subTest(arguments):
                self.debian(installed=['everything'])
                result = self.dev(*arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn('dev: ', result.stderr)
                self.assertEqual(self.installed_by_apt(), [])

    def test_nothing_is_installed_when_everything_is_there(self):
        self.debian(installed=['cmake', 'libboost1.83-dev'])
        result = self.bash('ensure_packages cmake "libboost1.81-dev|libboost1.83-dev"')
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, '', ''))
        self.assertEqual(self.installed_by_apt(), [])

    @unittest.skipUnless(os.geteuid() == 0, 'installing goes through sudo otherwise')
    def test_only_what_is_missing_is_installed_after_it_was_named(self):
        self.debian(installed=['cmake', 'removed config-files'], known=['ninja-build', 'libboost1.83-dev', 'removed'])
        result = self.bash('ensure_packages cmake ninja-build removed "libboost1.81-dev|libboost1.83-dev"')
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn('installing Debian packages: ninja-build removed libboost1.81-dev', result.stderr)
        self.assertEqual(self.installed_by_apt(), ['ninja-build', 'removed', 'libboost1.83-dev'])

    @unittest.skipUnless(os.geteuid() == 0, 'installing goes through sudo otherwise')
    def test_a_package_nobody_knows_and_a_failed_install_say_how_to_go_on(self):
        self.debian(installed=[], known=['cmake'])
        result = self.bash('ensure_packages cmake ninja-build')
        self.assertEqual(result.returncode, 1)
        self.assertIn('apt knows no package ninja-build', result.stderr)
        self.program('apt-get', 'exit 100')
        result = self.bash('ensure_packages cmake')
        self.assertEqual(result.returncode, 1)
        self.assertIn('could not install: cmake', result.stderr)

    def test_elsewhere_than_on_debian_the_programs_decide(self):
        result = self.bash('ensure_packages cmake ninja-build')
        self.assertEqual(result.returncode, 1)
        self.assertIn('not Debian or Ubuntu, and these programs are missing: clang++-19', result.stderr)
        self.assertIn('cmake ninja-build', result.stderr)
        for tool in ('clang++-19', 'ld.lld-19', 'ccache', 'ninja', 'cmake', 'python3', 'npm'):
            self.program(tool, 'exit 0')
        self.assertEqual(self.bash('ensure_packages cmake ninja-build').returncode, 0)

    def test_a_source_that_cannot_be_fetched_ends_the_command(self):
        self.program('cksum', 'echo 1 1')
        self.program('cmake', f'touch {self.home}/configured')
        result = self.bash(f'BUILD={self.home}/build; python() {{ return 1; }}; if ! (configure dev); then echo stopped; fi')
        self.assertEqual(result.stdout, 'stopped\n')
        self.assertIn('could not be fetched', result.stderr)
        self.assertFalse((self.home / 'configured').exists())

    def summed(self, *runs, cases=''):
        """The outcome of ctest runs, each given as ctest's exit status and the report it writes."""
        script = [f'BUILD={self.home}/build', f"CASES='{cases}'",
                  'ctest() { while [[ $1 != --output-junit ]]; do shift; done',
                  '[[ -z $REPORT ]] || printf %s "$REPORT" >"$2"; printf %s "$CASES" >"${GTEST_OUTPUT#xml:}p.xml"; return $STATUS; }']
        for number, (status, report) in enumerate(runs):
            script.append(f"STATUS={status}; REPORT='{report}'; ctest_run dev run{number}")
        return self.bash('\n'.join([*script, 'summary']))

    def test_the_closing_line_sums_all_runs(self):
        suite = '<?xml version="1.0"?>\n<testsuite name="x"\n\ttests="{}"\n\tfailures="{}"\n\tdisabled="0"\n\tskipped="{}"\n>\n' \
                '<testcase/>\n</testsuite>\n'
        result = self.summed((0, suite.format(5, 0, 1)), (0, suite.format(3, 0, 0)))
        self.assertEqual((result.returncode, result.stdout), (0, '7 passed, 0 failed, 1 skipped\n'), result.stderr)
        result = self.summed((8, suite.format(5, 2, 0)), (0, suite.format(3, 0, 0)))
        self.assertEqual((result.returncode, result.stdout), (1, '6 passed, 2 failed\n'), result.stderr)
        self.assertIn('FAILED: dev: run0', result.stderr)

    def test_a_run_that_found_no_test_or_could_not_start_is_a_failure(self):
        result = self.summed((8, ''), (0, '<testsuite tests="1" failures="0" skipped="0"><testcase/></testsuite>'))
        self.assertEqual((result.returncode, result.stdout), (1, '1 passed, 1 failed\n'), result.stderr)
        self.assertEqual(self.summed().returncode, 1, 'nothing ran')

    def test_skipped_cases_are_named_and_counted(self):
        case = '<testcase name="Loads" status="run" result="skipped" time="0." classname="Model">\n'
        result = self.summed((0, '<testsuite tests="1" failures="0" skipped="0">\n<testcase/>'), cases=case)
        self.assertEqual((result.returncode, result.stdout), (0, '1 passed, 0 failed, 1 skipped\n'), result.stderr)
        self.assertIn('skipped: Model.Loads', result.stderr)


if __name__ == '__main__':
    unittest.main()
