import html.parser
import json
import re
import unittest
import xml.etree.ElementTree as ET

from suite import figures, markdown, programs, report
from tests import fixture

PLOTS = ('users', 'timeline-gap_8000', 'timeline-gap', 'chats', 'burst', 'overload', 'overload-interactive', 'overload-purse', 'hit-rate')
VOID = {'meta', 'br', 'hr', 'img', 'input', 'link'}


class Balanced(html.parser.HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [v for k, v in attrs if k == 'id']
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f'</{tag}> out of order')


class Reports(unittest.TestCase):
    def setUp(self):
        self.results = json.loads(json.dumps(fixture.results()))  # as read back from results.json

    def test_the_page_is_well_formed_and_shows_every_figure(self):
        page = report.render(self.results)
        parser = Balanced()
        parser.feed(page)
        self.assertEqual(parser.open, [])
        charts = [f.name for f in figures.FIGURES if f.chart]
        for name in [*charts, 'memory', 'itl16', 'ttft', *PLOTS]:
            self.assertIn(name, parser.ids)
        pictures = re.findall(r'<svg.*?</svg>', page, re.S)
        self.assertGreaterEqual(len(pictures), len(charts) + 10)
        for picture in pictures:
            ET.fromstring(picture)

    def test_what_was_not_measured_has_no_heading(self):
        page = report.render(self.results)
        for title in ('Memory', 'The scheduler at work', 'Policies, measured and simulated', 'As shares of the possible'):
            self.assertIn(f'{title}</h', page)
        self.results.update(plots={}, memory={}, shares=[], curves={})
        del self.results['info']['policies']
        page = report.render(self.results)
        for title in ('Memory', 'The scheduler at work', 'Policies, measured and simulated', 'As shares of the possible', 'Distributions'):
            self.assertNotIn(f'{title}</h', page)

    def test_each_target_has_a_colour_of_its_own(self):
        verdicts = self.results['judged']['trace']['verdicts']
        for verdict, (value, met) in zip(verdicts, ((1.01, True), (0.67, False), (0.89, True))):
            verdict.update(value=value, met=met)
        self.assertIn('<span class="met">1.01× met</span>; <span class="missed">0.67× missed</span>; <span class="met">0.89× met</span>',
                      report.render(self.results))

    def test_the_crowds_client_is_on_the_page(self):
        self.assertIn('8.80 while 90.0 requests per second arrived, whose client took 1.0 % of a core', report.render(self.results))

    def test_published_runs_can_be_rendered_again(self):
        published = sorted((programs.ROOT / 'docs' / 'benchmarks').glob('*/results.json'))
        self.assertTrue(published)
        for path in published:
            results = json.loads(path.read_text())
            self.assertIn('</html>', report.render(results), path)
            self.assertIn('| figure |', markdown.render(results), path)

    def test_what_came_from_outside_is_escaped(self):
        page = report.render(self.results)
        self.assertNotIn('<CPU>', page)
        self.assertNotIn('A <b>?', page)
        self.assertIn('Some &lt;CPU&gt; &amp; more', page)

    def test_the_page_loads_nothing(self):
        self.assertNotRegex(report.render(self.results).replace('http://www.w3.org/2000/svg', ''), r'https?://|src=|@import')

    def test_the_table_says_met_and_missed(self):
        table = markdown.table(self.results)
        row = {line.split('|')[1].split(',')[0].strip(): line for line in table.splitlines() if line.startswith('|')}
        self.assertIn('0.13× met', row['Exec to ready'])
        self.assertIn('0.94× met', row['One stream'])
        self.assertIn('26.4 **missed**', row['CPU binary'])
        self.assertIn('221 (218–225)', row['One stream'])
        self.assertIn('49 of 50', table)
        self.assertIn('Not measured: gap of llama-server', table)

    def test_what_a_server_lacks_is_said_with_its_reason(self):
        table = markdown.table(self.results)
        row = next(line for line in table.splitlines() if line.startswith('| Resuming'))
        self.assertIn('not available: this hearth serve has no --cache-dir', row)
        self.assertIn('llama-server 16.0', row)
        self.assertTrue(row.endswith('| not available |'), row)
        self.assertIn('not available: this hearth serve has no --cache-dir', report.render(self.results))

    def test_a_figure_for_information_has_no_verdict(self):
        row = next(line for line in markdown.table(self.results).splitlines() if line.startswith('| TTFT of the first user'))
        self.assertTrue(row.endswith('| - | - |'), row)

    def test_a_target_of_none_is_met_by_none(self):
        row = next(line for line in markdown.table(self.results).splitlines() if 'no end within 90 s' in line)
        self.assertIn('≤ 0 requests | 0 met', row)

    def test_a_run_of_one_figure_renders_too(self):
        for key in ('samples', 'judged'):
            self.results[key] = {'start': self.results[key]['start']}
        for key in ('tuning', 'memory', 'distributions', 'curves', 'variants', 'machine', 'shares', 'info', 'plots', 'unavailable'):
            self.results[key] = {}
        del self.results['greedy']
        Balanced().feed(report.render(self.results))
        self.assertIn('Exec to ready', markdown.render(self.results))

    def test_shares_are_of_the_machine_measured_in_the_same_run(self):
        share = {r['what']: r for r in self.results['shares']}['hearth: weights read, one stream']
        self.assertAlmostEqual(share['value'], 221.0 * 98362432 / 1e9)
        self.assertAlmostEqual(share['share'], share['value'] / 78.0)


if __name__ == '__main__':
    unittest.main()
