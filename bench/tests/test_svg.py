import unittest
import xml.etree.ElementTree as ET

from suite import svg

SVG = '{http://www.w3.org/2000/svg}'


class Ticks(unittest.TestCase):
    def test_ticks_are_round_and_cover_the_range(self):
        self.assertEqual(svg.nice_ticks(0, 236), [0, 50, 100, 150, 200, 250])
        self.assertEqual(svg.nice_ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0])
        self.assertEqual(svg.nice_ticks(0, 0)[-1], 1)
        for high in (0.003, 7, 99, 101, 1e6):
            ticks = svg.nice_ticks(0, high)
            self.assertGreaterEqual(ticks[-1], high)
            self.assertLessEqual(len(ticks), 8)

    def test_logarithmic_ticks_cover_the_range(self):
        self.assertEqual(svg.log_ticks(3, 70), [1, 2, 5, 10, 20, 50, 100])
        self.assertEqual(svg.log_ticks(1, 1), [1, 2, 5, 10])
        self.assertEqual(len(svg.log_ticks(0.01, 1e5)), 8)
        with self.assertRaises(ValueError):
            svg.log_ticks(0, 1)


class Charts(unittest.TestCase):
    def rects(self, text, color):
        return [r for r in ET.fromstring(text).iter(SVG + 'rect') if r.get('fill') == color]

    def test_bars_are_as_long_as_their_values(self):
        chart = svg.bars('A & B <c>', 'ms', [('one', 50, 40, 60, '#111111', '50'), ('two', 100, 100, 100, '#222222', '100')])
        one, two = self.rects(chart, '#111111')[0], self.rects(chart, '#222222')[0]
        self.assertAlmostEqual(float(two.get('width')) / float(one.get('width')), 2, places=2)
        texts = [t.text for t in ET.fromstring(chart).iter(SVG + 'text')]
        self.assertIn('A & B <c>', texts)
        self.assertIn('ms', texts)

    def test_everything_stays_inside_the_picture(self):
        chart = ET.fromstring(svg.bars('t', 'x', [('a', 1.0, 0.5, 3.0, '#111111', '1')], (2.0, 'target')))
        width, height = float(chart.get('width')), float(chart.get('height'))
        for line in chart.iter(SVG + 'line'):
            for key, limit in (('x1', width), ('x2', width), ('y1', height), ('y2', height)):
                self.assertTrue(0 <= float(line.get(key)) <= limit, (key, line.attrib))

    def test_spread_is_drawn_only_where_there_is_one(self):
        with_spread = svg.bars('t', 'x', [('a', 2, 1, 2, '#111111', '2')])
        without = svg.bars('t', 'x', [('a', 2, 2, 2, '#111111', '2')])
        self.assertEqual(with_spread.count('<line') - without.count('<line'), 3)

    def test_stacked_parts_add_up(self):
        chart = svg.stacked('t', 'MiB', ['p', 'q'], [('a', [30, 10])])
        p, q = (self.rects(chart, svg.PARTS[i])[-1] for i in (0, 1))
        self.assertAlmostEqual(float(p.get('x')) + float(p.get('width')), float(q.get('x')), places=1)
        self.assertAlmostEqual(float(p.get('width')) / float(q.get('width')), 3, places=2)

    def test_a_cumulative_curve_rises_from_left_to_right(self):
        chart = ET.fromstring(svg.cumulative('t', 'ms', {'a': ([0.0, 1.0, 10.0, 100.0], '#111111')}))
        points = [tuple(map(float, p.split(','))) for p in next(chart.iter(SVG + 'polyline')).get('points').split()]
        self.assertEqual(points, sorted(points, key=lambda p: p[0]))
        self.assertEqual([y for _, y in points], sorted((y for _, y in points), reverse=True))
        with self.assertRaises(ValueError):
            svg.cumulative('t', 'ms', {'a': ([0.0], '#111111')})

    def test_a_plane_places_points_by_both_axes(self):
        chart = ET.fromstring(svg.plane('t', 'users', 'ms', {'a': ([(1, 10.0), (2, 100.0), (8, 1000.0)], '#111111', 'marked')}, log_y=True,
                                        mark=(100, 'target')))
        places = [(float(c.get('cx')), float(c.get('cy'))) for c in chart.iter(SVG + 'circle')]
        self.assertEqual(len(places), 3)
        self.assertAlmostEqual((places[2][0] - places[0][0]) / (places[1][0] - places[0][0]), 7, places=1)
        # A tenfold is as high as the next tenfold, and the target goes through the point at 100.
        self.assertAlmostEqual(places[0][1] - places[1][1], places[1][1] - places[2][1], places=1)
        dashed = next(line for line in chart.iter(SVG + 'line') if line.get('stroke-dasharray'))
        self.assertAlmostEqual(float(dashed.get('y1')), places[1][1], places=1)

    def test_a_plane_without_logarithms_begins_at_zero(self):
        series = {'a': ([(0, 30.0), (5, 40.0)], '#111111', 'line'), 'b': ([(2, 35.0)], '#222222', 'dots')}
        chart = ET.fromstring(svg.plane('t', 'x', 'y', series))
        self.assertIn('0', [t.text for t in chart.iter(SVG + 'text')])
        self.assertEqual(len(list(chart.iter(SVG + 'polyline'))), 1)
        with self.assertRaisesRegex(ValueError, 'nothing to plot'):
            svg.plane('t', 'x', 'y', {'a': ([], '#111111', 'line')})


if __name__ == '__main__':
    unittest.main()
