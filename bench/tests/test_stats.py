import unittest

from suite import figures, stats


class Stats(unittest.TestCase):
    def test_median_of_odd_and_even_counts(self):
        self.assertEqual(stats.median([3, 1, 2]), 2)
        self.assertEqual(stats.median([4, 1, 3, 2]), 2.5)
        with self.assertRaises(ValueError):
            stats.median([])

    def test_percentiles_interpolate_between_ranks(self):
        self.assertEqual(stats.percentile([1, 2, 3, 4], 0.5), 2.5)
        self.assertAlmostEqual(stats.percentile([1, 2, 3, 4], 0.9), 3.7)
        self.assertEqual(stats.percentile([7], 0.99), 7)
        with self.assertRaises(ValueError):
            stats.percentile([1], 1.5)

    def test_spread_names_the_extremes(self):
        self.assertEqual(stats.spread([5, 1, 3]), {'median': 3, 'min': 1, 'max': 5, 'n': 3, 'iqr': 2})

    def test_a_ratio_needs_both_sides(self):
        self.assertEqual(stats.ratio(1, 4), 0.25)
        self.assertIsNone(stats.ratio(None, 4))
        self.assertIsNone(stats.ratio(1, 0))

    def test_numbers_keep_the_digits_that_mean_something(self):
        for value, text in ((0.012345, '0.0123'), (1.2345, '1.23'), (12.345, '12.3'), (123.45, '123'), (12345.6, '12,346'), (0, '0'),
                            (None, '-'), (float('nan'), '-')):
            self.assertEqual(stats.number(value), text)


class Judging(unittest.TestCase):
    def test_a_target_compares_medians_in_its_own_direction(self):
        judged = figures.judge(figures.BY_NAME['start'], {'hearth': [100, 101, 500], 'llama-server': [400, 404, 410]})
        self.assertTrue(judged['verdicts'][0]['met'])
        self.assertAlmostEqual(judged['verdicts'][0]['value'], 101 / 404)
        judged = figures.judge(figures.BY_NAME['start'], {'hearth': [102], 'llama-server': [404]})
        self.assertFalse(judged['verdicts'][0]['met'])

    def test_every_target_of_a_figure_is_judged(self):
        samples = {'hearth': [95], 'llama-server': [96], 'llama-batched-bench': [100]}
        verdicts = figures.judge(figures.BY_NAME['decode16'], samples)['verdicts']
        self.assertEqual([v['met'] for v in verdicts], [True, False])

    def test_an_absolute_target_needs_no_peer(self):
        self.assertTrue(figures.judge(figures.BY_NAME['binary'], {'hearth': [24.9]})['verdicts'][0]['met'])
        self.assertFalse(figures.judge(figures.BY_NAME['binary'], {'hearth': [25.1]})['verdicts'][0]['met'])

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        self.assertIsNone(figures.judge(figures.BY_NAME['gap'], {'hearth': [1]})['verdicts'][0]['met'])
        self.assertIsNone(figures.judge(figures.BY_NAME['gap'], {})['verdicts'][0]['met'])

    def test_the_best_variant_is_chosen_per_figure_and_the_first_wins_a_draw(self):
        chosen = figures.choose_variants({'default': {'start': 5, 'decode1': 10, 'rss': 1}, 'other': {'start': 4, 'decode1': 9, 'rss': 1}})
        self.assertEqual(chosen, {'start': 'other', 'decode1': 'default', 'rss': 'default'})


if __name__ == '__main__':
    unittest.main()
