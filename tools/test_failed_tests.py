"""The last words of a failed run: which tests failed and the end of what they said."""
import contextlib
import io
import pathlib
import tempfile
import unittest

import failed_tests

REPORT = """<testsuite tests="3" failures="2">
  <testcase name="unit_net"><system-out>all well</system-out></testcase>
  <testcase name="system_stop"><failure message="Failed"/><system-out>{lines}</system-out></testcase>
  <testcase name="system_silent"><failure/></testcase>
</testsuite>"""


class FailedTests(unittest.TestCase):
    def said(self, *reports):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.assertEqual(failed_tests.main([str(report) for report in reports]), 0)
        return out.getvalue()

    def test_each_failed_test_is_named_with_the_end_of_its_output(self):
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / 'system.xml'
            report.write_text(REPORT.format(lines='\n'.join(f'line {n}' for n in range(200))))
            said = self.said(report)
        self.assertIn('---- system_stop\n  line 140\n', said)
        self.assertTrue('  line 199\n---- system_silent\n' in said, said)
        self.assertNotIn('line 139', said)
        self.assertNotIn('unit_net', said)

    def test_a_report_that_cannot_be_read_is_said(self):
        self.assertIn('/nowhere/x.xml: cannot be read', self.said('/nowhere/x.xml'))


if __name__ == '__main__':
    unittest.main()
