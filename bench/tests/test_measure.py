import json
import pathlib
import tempfile
import types
import unittest
from unittest import mock

from suite import figures, measure, process, programs


class FakeServer:
    """Stands in for a server process; every start is written down."""
    starts = []
    pid, ready_ms, url = 1, 5.0, 'http://127.0.0.1:1'

    def __init__(self, argv, *_):
        self.starts.append(pathlib.Path(argv[0]).name + (' -fa off' if 'off' in map(str, argv) else ''))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def fake_report(_program, _server, options, _raw, _timeout=0):
    n = options.get('requests', 1)
    report = {'failed': 0, 'completed': n, 'num_prompts': n, 'failures': {}, 'median_tpot_ms': 5.0, 'decode_throughput': 300.0,
              'itl_quantiles_ms': [1.0, 2.0], 'ttft_quantiles_ms': [1.0, 2.0], 'median_prefill_per_s': 900.0,
              'total_input_tokens': 1100 * n,
              'server_cpu_us_per_token': 100.0, 'client_cpu_us_per_token': 3.0, 'output_throughput': 5000.0,
              'generated_texts': ['same'] * n}
    return report


class Rounds(unittest.TestCase):
    def setUp(self):
        FakeServer.starts = []
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ('m.gguf', 's.gguf'):
            (self.folder / name).write_text('x')
        patches = [mock.patch.object(measure, 'Server', FakeServer), mock.patch.object(measure, 'warm'),
                   mock.patch.object(measure, 'memory', lambda pid: [
                       {'pid': 1, 'name': 'x', 'rss_kib': 2048, 'pss_kib': 1, 'private_kib': 1, 'anonymous_kib': 1}]),
                   mock.patch.object(programs, 'bench_serve', fake_report),
                   mock.patch.object(programs, 'hearth_flags', lambda program: frozenset()),
                   mock.patch.object(programs, 'llama_bench', lambda *a: ({'pp512': 1000.0, 'tg128': 240.0, 'pp1100': 950.0}, 10)),
                   mock.patch.object(programs, 'batched_bench', lambda *a: {4: 280.0, 16: 330.0})]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)

    def suite(self, wanted, quick=True):
        options = types.SimpleNamespace(model=self.folder / 'm.gguf', small_model=self.folder / 's.gguf', figures=wanted, quick=quick,
                                        threads=2, long=False, data=self.folder)
        suite = measure.Suite(options, '/x/hearth', '/x/hearth', pathlib.Path('/p'), self.folder / 'out')
        suite.results['model'] = {'bytes': 1}
        suite.note = lambda text: None
        return suite

    def test_every_figure_gets_one_sample_per_round_and_subject(self):
        suite = self.suite([f.name for f in figures.MACHINE if f.name != 'binary'])
        suite.tune()
        for repetition in range(3):
            suite.round(repetition)
        suite.judge()
        self.assertEqual(suite.results['errors'], [])
        for figure in figures.MACHINE:
            if figure.name == 'binary':
                continue
            for subject in figure.subjects:
                self.assertEqual(len(suite.results['samples'][figure.name][subject]), 3, (figure.name, subject))
        self.assertEqual(suite.results['samples']['decode1']['hearth'], [200.0] * 3)
        self.assertEqual(suite.results['samples']['rss']['hearth'], [2.0] * 3)
        self.assertEqual(json.loads((self.folder / 'out' / 'results.json').read_text())['samples'], suite.results['samples'])

    def test_the_servers_take_turns_in_being_first(self):
        suite = self.suite(['start'])
        suite.tune()
        for repetition in range(4):
            suite.round(repetition)
        self.assertEqual(FakeServer.starts, ['hearth', 'llama-server', 'llama-server', 'hearth'] * 2)

    def test_the_peer_is_measured_with_its_best_flags_per_figure(self):
        suite = self.suite(['start', 'decode1'], quick=False)
        rates = {'fa off': 1.0, 'default': 9.0}

        def visit(subject, variant, wanted, seed):
            values = {'start': rates.get(variant, 50.0), 'decode1': rates.get(variant, 0.1)}
            return {n: values[n] for n in wanted}
        suite.visit_main = visit
        suite.tune()
        self.assertEqual(suite.results['variants']['llama-server'], {'start': 'fa off', 'decode1': 'default'})
        suite.round(0)
        self.assertEqual(suite.results['samples']['start']['llama-server'], [1.0])
        self.assertEqual(suite.results['samples']['decode1']['llama-server'], [9.0])
        self.assertEqual(set(suite.results['tuning']['llama-server']), set(programs.LLAMA_VARIANTS))

    def test_a_failed_measurement_is_recorded_and_the_rest_goes_on(self):
        def failing(program, server, options, raw, timeout=0):
            report = fake_report(program, server, options, raw)
            return {**report, 'failed': 1, 'failures': {'timeout': 1}} if options.get('concurrency') == 4 else report
        suite = self.suite(['decode1', 'decode4'])
        with mock.patch.object(programs, 'bench_serve', failing):
            suite.tune()
            suite.round(0)
        suite.judge()
        self.assertEqual(len(suite.results['errors']), 2)
        self.assertIn('decode4 of hearth', suite.results['errors'][0])
        self.assertIsNone(suite.results['judged']['decode4']['verdicts'][0]['met'])
        self.assertEqual(suite.results['samples']['decode1']['hearth'], [200.0])

    def test_greedy_answers_are_compared_one_by_one(self):
        def answers(program, server, options, raw, timeout=0):
            mine = [['a', 'b'], ['a', 'c']][len(FakeServer.starts) - 1]
            return {**fake_report(program, server, options, raw), 'generated_texts': mine}
        suite = self.suite(['decode1'])
        with mock.patch.object(programs, 'bench_serve', answers):
            suite.greedy(['p', 'q'])
        self.assertEqual(suite.results['greedy']['equal'], 1)
        self.assertEqual(suite.results['greedy']['differences'], [{'prompt': 'q', 'hearth': 'b', 'llama-server': 'c'}])

    def test_a_server_that_does_not_start_fails_only_its_own_visit(self):
        class Broken(FakeServer):
            def __enter__(self):
                raise process.MeasureError('not ready')
        suite = self.suite(['start'])
        suite.tune()
        with mock.patch.object(measure, 'Server', Broken):
            suite.round(0)
        self.assertEqual(len(suite.results['errors']), 2)


if __name__ == '__main__':
    unittest.main()
