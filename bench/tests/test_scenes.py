import contextlib
import io
import os
import pathlib
import tempfile
import types
import unittest
from unittest import mock

from suite import figures, measure, plots, programs, scenes, stage
from suite.client import Answer
from suite.process import MeasureError
from suite.scenes import burst, busy, kinds, overload, policies, replay, speculation, stall


def answered(sent, *times):
    return Answer(sent=sent, head=times[0], ended=times[-1], status=200, finished=True, times=list(times))


def refused(sent, head):
    return Answer(sent=sent, head=head, ended=head, status=429, headers={'retry-after': '3'})


class Registry(unittest.TestCase):
    def test_every_scene_has_figures_and_every_figure_its_scene(self):
        self.assertEqual({f.scene for f in figures.SCHEDULING}, set(scenes.BY_NAME))
        for scene in scenes.SCENES:
            own = [f for f in figures.SCHEDULING if f.scene == scene.name]
            self.assertEqual({s for f in own for s in f.subjects}, set(scene.subjects), scene.name)
        self.assertLessEqual(set(plots.DRAWN), set(scenes.BY_NAME))
        self.assertLessEqual({s for f in figures.FIGURES for s in f.subjects}, set(plots.COLORS))

    def test_a_scene_stands_for_all_its_figures(self):
        self.assertEqual(figures.select(['stall', 'start']), ['start', 'gap', 'gap_8000', 'stall_itl'])
        self.assertEqual(figures.select(['gap']), ['gap'])


class Judging(unittest.TestCase):
    def visit(self, **options):
        suite = types.SimpleNamespace(results={'plots': {}, 'unavailable': {}, 'info': {'tokens_per_word': 1.0}},
                                      options=types.SimpleNamespace(model='m', long=False, quick=False, **options))
        return scenes.Visit(suite, scenes.BY_NAME['overload'], figures.SERVER, [], 1000)

    def test_gaps_are_those_that_reach_into_the_window(self):
        streams = [answered(0, 1.0, 2.0, 4.0, 4.5, 6.0), answered(0, 1.5, 5.5, 5.6)]
        self.assertEqual(stall.gaps_around(streams, 2.5, 4.2), [(4.0, 2000.0), (4.5, 500.0), (5.5, 4000.0)])

    def test_tokens_guessed_ahead_are_one_arrival(self):
        streams = [answered(0, 1.0, 2.0, 2.0004, 2.0008, 3.0)]
        self.assertEqual(stall.gaps_around(streams, 0.5, 4.0), [(2.0, 1000.0), (3.0, 1000.0)])

    def test_fates_are_counted(self):
        hung, broken = Answer(error='timeout'), Answer(status=500)
        counted = burst.count_fates([answered(0, 1), refused(0, 1), hung, broken, hung])
        self.assertEqual(counted, {'answered': 1, 'refused': 1, 'other': 1, 'hung': 2})

    def overload_of(self, visit, crowd, few):
        quiet = overload.Phase(10.0, [answered(0, 1.0)], [answered(0, 0.05)], {'client_cpu_s': 0.1})
        busy_phase = overload.Phase(overload.RAMP_S + 6.0, crowd, few, {'client_cpu_s': 0.2})
        return overload.values_of(visit, [50.0], [1.5, 2.5], 20.0, quiet, busy_phase)

    def test_overload_counts_goodput_after_the_ramp_and_the_slowest_refusal(self):
        visit = self.visit()
        crowd = [answered(0, 1.0), *(answered(0, overload.RAMP_S + 0.5 + i) for i in range(6)), answered(0, overload.RAMP_S + 6.5),
                 refused(5.0, 5.004), refused(6.0, 6.009), Answer(error='timeout', status=200)]
        few = [answered(1.0, 1.05), refused(2.0, 2.001)]
        values = self.overload_of(visit, crowd, few)
        self.assertAlmostEqual(values['overload_goodput'], 50.0)  # 6 in 6 s, of 2 a second
        self.assertAlmostEqual(values['overload_reject'], 9.0)
        self.assertEqual((values['overload_silent'], values['overload_other']), (1, 0))
        # A refused question is no quick answer.
        self.assertGreater(values['overload_high'], 400)
        drawn = visit.suite.results['plots']['overload']['llama-server'][0]
        self.assertEqual((drawn['answered'], drawn['refused'], drawn['hung']), (8, 2, 1))
        self.assertEqual((drawn['peak']['client_cpu_s'], drawn['overload']['client_cpu_s']), (0.1, 0.2))

    def test_what_was_broken_off_is_told_apart(self):
        visit = self.visit()
        broken = Answer(sent=7.0, ended=27.0, status=200, error='the stream ended with an error')
        self.overload_of(visit, [answered(2.0, 3.0), broken], [answered(0, 0.05)])
        self.assertEqual(visit.suite.results['plots']['overload']['llama-server'][0]['overload']['broken_off'], [[5.0, 20.0]])

    def test_clients_that_may_not_go_first_are_said_and_measured_all_the_same(self):
        visit = types.SimpleNamespace(is_hearth=True, server=lambda *flags: contextlib.nullcontext('server'),
                                      run=lambda coroutine: coroutine.close() or {'overload_goodput': 1.0})
        said = io.StringIO()
        with mock.patch.object(overload.environment, 'ahead', lambda: contextlib.nullcontext(False)), contextlib.redirect_stderr(said):
            self.assertEqual(overload.visit_server(visit), {'overload_goodput': 1.0})
        self.assertIn('may not go before the server', said.getvalue())

    def test_the_scheduler_is_read_from_the_view_of_the_engine(self):
        engine = {'steps': {'interruption_purse_ms': 12.5, 'interrupted': 3, 'total': 9}, 'sequences': [{}, {}], 'kv': {'preemptions': 1}}
        view = {'models': [{'engine': engine, 'queue': {'normal': {'waiting': 5, 'predicted_wait_s': None}}}]}
        self.assertEqual(overload.scheduler_of(view), {'purse_ms': 12.5, 'interrupted': 3, 'steps': 9, 'sequences': 2, 'preemptions': 1,
                                                       'waiting': 5, 'predicted_wait_s': None})

    def test_a_server_that_refuses_nothing_has_no_time_of_refusal(self):
        visit = self.visit()
        values = self.overload_of(visit, [answered(0, 1.0)], [answered(0, 0.05)])
        self.assertNotIn('overload_reject', values)
        self.assertEqual(visit.suite.results['unavailable'], {'overload_reject': {'llama-server': 'it refused nothing'}})

    def test_answers_in_waves_are_no_more_or_less_for_where_the_window_lies(self):
        waves = [answered(0, 2.0 * wave + 0.01 * i) for wave in range(12) for i in range(16)]
        for begin in (3.0, 4.5, 5.9):
            for length in (6.0, 7.0, 9.4):
                self.assertAlmostEqual(overload.rate_of(waves, begin, begin + length), 8.0, places=6)

    def test_the_rate_has_all_the_time_in_which_nothing_came(self):
        self.assertEqual(overload.rate_of([answered(0, 5.0), answered(0, 6.0)], 4.0, 15.0), 0.2)  # until the end of the window
        self.assertEqual(overload.rate_of([answered(0, 5.0), answered(0, 6.0), answered(0, 25.0)], 4.0, 15.0), 0.1)
        self.assertEqual(overload.rate_of([answered(0, 3.0), refused(5.0, 5.1)], 4.0, 15.0), 0.0)

    def test_the_slowest_prompt_is_found_over_the_medians_of_pairs(self):
        fast, slow, short = [33, 1.0], [33, 2.0], [5, 1.0]
        names = 'spec_copy', 'spec_chat'
        quiet = {'spec_copy': [[fast] * 3, [fast, fast, slow], [short] * 3], 'spec_chat': [[fast]]}
        noisy = {'spec_copy': [[fast, slow, fast], [slow, slow, slow], [short, short, [5, 9.0]]], 'spec_chat': [[fast]]}
        none = {name: [[] for _ in quiet[name]] for name in names}
        once = {'on': noisy, 'off': quiet, 'again': none}
        self.assertEqual(speculation.slowest([once]), (0.5, None))
        self.assertEqual(speculation.slowest([once, {'on': quiet, 'off': quiet, 'again': none}]), (1.0, None))
        again = {'spec_copy': [[], [fast, fast], []], 'spec_chat': [[]]}  # against the last two
        self.assertEqual(speculation.slowest([{'on': noisy, 'off': quiet, 'again': again}]), (0.5, 1.5))
        brief = {name: [[short]] for name in names}
        self.assertEqual(speculation.slowest([{'on': brief, 'off': brief, 'again': {name: [[]] for name in names}}]), (None, None))

    def test_the_unbounded_cache_is_counted_in_the_servers_tokens(self):
        visit = self.visit()
        visit.scene, visit.subject = scenes.BY_NAME['replay'], figures.UNBOUNDED
        visit.suite.results['plots']['replay'] = {'hearth': [{'prompt': [66, 66], 'cached': [0, 0]}]}
        rows = [replay.trace.Row(0, 60, 1, (0, 1, 2, 3)), replay.trace.Row(0, 60, 1, (0, 1, 2, 3))]
        self.assertAlmostEqual(replay.unbounded(visit, rows)['trace'], 60 * 132 / 120)

    def test_the_unbounded_cache_of_chats_is_counted_over_their_tokens(self):
        asked = ['abc?', 'abc?XYmore', 'abd', 'abd']
        # Behind the first: all new. 'abc?X' is known, for the last token of an answer is not computed. 'ab' is. The last token always is.
        self.assertEqual(kinds.computed_by_unbounded(asked, ['XY', '1', '2', '3']), [4, 5, 1, 1])

    def test_servers_that_count_differently_are_told(self):
        messages = [{'role': 'user', 'content': 'Hi.'}]
        size = len('suser\nHi.e\nsassistant\n')
        answer = Answer(text='x', usage={'prompt_tokens': size, 'prompt_tokens_details': {'cached_tokens': 3}})
        count = kinds.Count()
        count.add(messages, answer)
        self.assertEqual(count.computed, [size - 3])
        answer.timings = {'prompt_n': size}
        with self.assertRaisesRegex(MeasureError, 'as computed'):
            count.add(messages, answer)
        answer.usage = {'prompt_tokens': size + 1}
        with self.assertRaisesRegex(MeasureError, f'in a prompt of {size}'):
            count.add(messages, answer)

    def test_policies_are_compared_where_they_clearly_differ(self):
        def figures_of(ttft, gap):
            return dict(zip(policies.FIGURES, (ttft, ttft, gap, 1000, 50.0)))
        rounds = [dict(zip(policies.POLICIES, map(figures_of, ttfts, gaps))) for ttfts, gaps in
                  (((100, 300, 101, 200), (60, 60, 400, 60)), ((110, 310, 109, 205), (61, 60, 380, 62)))]
        right = dict(zip(policies.POLICIES, map(figures_of, (1, 3, 2, 2), (5, 5, 9, 5))))
        found = policies.compare(rounds, right)
        pairs = {(a, b) for a, b, *_ in found}
        self.assertEqual(len(pairs), 6)
        self.assertNotIn(('hearth', 'long-steps', 'interactive TTFT p50, ms'), {tuple(f[:3]) for f in found})  # the rounds overlap
        wrong = [f for f in found if not f[3]]
        self.assertEqual({f[:2] for f in wrong}, {('long-steps', 'plain')})  # simulated alike, measured apart

    def test_equal_seeds_are_equal_tokens(self):
        self.assertEqual(policies.tokens_of([[1, 5], [2, 3]])[:5], policies.tokens_of([[1, 5]]))
        self.assertNotEqual(policies.tokens_of([[1, 5]]), policies.tokens_of([[2, 5]]))

    def test_foreign_work_ends_also_when_measuring_fails(self):
        with self.assertRaises(ZeroDivisionError):
            with busy.foreign_work(2) as spinning:
                pids = [process.pid for process in spinning]
                raise ZeroDivisionError
        for pid in pids:
            with self.assertRaises(ProcessLookupError):
                os.kill(pid, 0)


class Running(unittest.TestCase):
    def suite(self, wanted, quick=True):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name)
        options = types.SimpleNamespace(model=path / 'm.gguf', small_model=path / 's.gguf', figures=wanted, quick=quick, threads=2,
                                        minutes=45,
                                        long=False, data=path)
        suite = measure.Suite(options, '/x/hearth', '/x/hearth', pathlib.Path('/p'), path / 'out')
        suite.note = lambda text: None
        return suite

    def stage(self, visit, quick=True, **fields):
        """A stage with one scene, that of the figures beside and beside_ratio."""
        suite = self.suite(['beside'], quick)
        scene = scenes.Scene('beside', 4, 2048, visit, **fields)
        with mock.patch.object(scenes, 'SCENES', (scene,)):
            return suite, stage.Stage(suite)

    def test_rounds_interleave_and_end_with_the_scenes_own_limit(self):
        seen = []
        suite, one = self.stage(lambda visit: seen.append(visit.subject) or {'beside': 5.0, 'unwanted': 1.0}, rounds=2)
        one.tune()
        for repetition in range(3):
            one.round(repetition)
        one.finish()
        self.assertEqual(seen, ['hearth', 'llama-server', 'llama-server', 'hearth'])
        self.assertEqual(suite.results['samples'], {'beside': {'hearth': [5.0, 5.0], 'llama-server': [5.0, 5.0]}})

    def test_the_peers_best_flags_are_kept_and_trying_them_leaves_no_trace(self):
        def visit(v):
            v.draw({'flags': v.flags})
            return {'beside': 9.0 if not v.flags else 3.0, 'beside_ratio': 1.0}
        suite, one = self.stage(visit, quick=False, peer_variants={'default': [], 'small batch': ['-b', '256']})
        one.tune()
        self.assertEqual(suite.results['plots'], {})
        one.round(0)
        self.assertEqual(suite.results['variants'], {'llama-server': {'beside': 'small batch'}})
        self.assertEqual(suite.results['plots']['beside'], {'hearth': [{'flags': []}], 'llama-server': [{'flags': ['-b', '256']}]})
        self.assertEqual(suite.results['samples']['beside'], {'hearth': [9.0], 'llama-server': [3.0]})

    def test_rounds_that_would_take_too_long_are_left_out_and_named(self):
        seen = []
        suite, one = self.stage(lambda visit: seen.append(visit.subject) or {'beside': 5.0}, quick=False, rounds=3,
                                peer_variants={'default': [], 'other': ['-b', '256']})
        suite.started -= 45 * 60  # as if all the time was spent
        one.tune()
        for repetition in range(3):
            one.round(repetition)
        self.assertEqual(seen, ['hearth', 'llama-server'])  # once at least, with default flags
        self.assertEqual(suite.results['left_out'], ["trying llama-server's flags for beside", 'round 2 of beside', 'round 3 of beside'])
        self.assertEqual(suite.results['variants'], {'llama-server': {'beside': 'default'}})

    def test_what_all_flags_have_in_common_is_taken_once(self):
        taken = []
        def visit(v):
            v.once('off', lambda: taken.append(v.seed))
            return {'beside': 1.0}
        suite, one = self.stage(visit, quick=False, rounds=1, peer_variants={'default': [], 'other': ['-b', '256']})
        one.tune()
        one.round(0)
        self.assertEqual(taken, [7, 1000, 1000])  # trying, then each server
        self.assertIn('beside', suite.results['seconds'])

    def test_what_is_not_available_is_no_error_and_what_fails_is(self):
        def visit(v):
            if v.is_hearth:
                raise scenes.NotAvailable('no such flag')
            raise MeasureError('it fell over')
        suite, one = self.stage(visit)
        one.tune()
        one.round(0)
        suite.judge()
        self.assertEqual(suite.results['unavailable'], {n: {'hearth': 'no such flag'} for n in ('beside', 'beside_ratio')})
        self.assertEqual(suite.results['errors'], ['beside of llama-server, default: it fell over'])
        self.assertEqual(suite.results['judged']['beside']['unavailable'], {'hearth': 'no such flag'})

    def test_nothing_on_disk_helps_a_later_start(self):
        suite = self.suite(['start'])
        made = []
        with mock.patch.object(measure, 'Server', lambda argv, *_: made.append([str(a) for a in argv])), \
                mock.patch.object(measure, 'warm'), \
                mock.patch.object(programs, 'hearth_flags', lambda program: frozenset({'--cache-disk'})):
            suite.start(figures.HEARTH, suite.main, [], 'a')
            suite.start(figures.HEARTH, suite.main, ['--cache-disk', '4GiB'], 'b')
            suite.start(figures.SERVER, suite.main, [], 'c')
        self.assertEqual(made[0][-2:], ['--cache-disk', '0'])
        self.assertEqual(made[1].count('--cache-disk'), 1)
        self.assertNotIn('--cache-disk', made[2])

    def test_the_flags_are_read_from_the_help(self):
        with mock.patch.object(programs.process, 'run', lambda *_: '  --cache-dir DIR  Folder\n  -p,--port UINT (see --host)\n'):
            self.assertEqual(programs.hearth_flags('/x'), {'--cache-dir', '--port', '--host'})


if __name__ == '__main__':
    unittest.main()
