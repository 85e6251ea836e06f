"""A run's results as results.json holds them, made up, for tests of the reports."""
import types

from suite import figures, measure


def scheduling():
    """One sample and its double for every figure of the scenes; who lacks one is in `unavailable`."""
    samples = {f.name: {subject: [10.0 + i, 20.0 + i] for i, subject in enumerate(f.subjects)} for f in figures.SCHEDULING}
    for name in ('resume', 'resume_kill', 'resume_equal'):
        del samples[name]['hearth']
    for name in ('burst_other', 'burst_hung', 'overload_silent'):
        samples[name] = {'hearth': [0, 0], 'llama-server': [3, 5]}
    return samples


def plots():
    stream = {'gaps': [[-0.1, 12.0], [0.1, 55.0], [0.2, 60.0]], 'ttft_ms': 900.0, 'prompt_tokens': 7900, 'base_ms': 12.0}
    fates = {'answered': 200, 'refused': 290, 'other': 0, 'hung': 10}
    by_scene = {
        'shared': {'cold': [900.0], 'warm': [30.0], 'users': {1: [40.0], 4: [50.0, 60.0, 61.0, 65.0]}, 'fresh': [901.0]},
        'stall': {'gap': stream, 'gap_8000': stream},
        'chats': {'at_rest': 100.0, 'rss_chats1': 110.0, 'rss_chats16': 190.0, 'afterwards': 180.0},
        'burst': fates,
        'overload': {**fates, 'peak_per_s': 9.0, 'goodput_per_s': 8.8, 'rate_per_s': 90.0,
                     'high_ttft_ms': [30.0, 41.0, 25000.0],
                     'overload': {'client_cpu_s': 0.3, 'seconds': 30.0,
                                  'seen': [{'at': 0.1, 'purse_ms': 500.0}, {'at': 1.2, 'purse_ms': 0.0}]}},
    }
    by_scene['swap'] = {'ms': [180.0, 210.0], 'texts': ['a', 'a']}
    drawn = {scene: {subject: [data, data] for subject in ('hearth', 'llama-server')} for scene, data in by_scene.items()}
    drawn['replay'] = {subject: [{'prompt': [10, 20, 30], 'cached': [0, 10, 25]}] for subject in figures.BY_NAME['trace'].subjects}
    return drawn


def results():
    samples = {
        'start': {'hearth': [101.0, 98.5, 110.2], 'llama-server': [803.1, 790.4, 822.9]},
        'rss': {'hearth': [405.2, 405.0, 405.9], 'llama-server': [955.0, 954.2, 957.7]},
        'decode1': {'hearth': [221.0, 218.2, 224.7], 'llama-server': [163.3, 160.0, 165.9], 'llama-bench': [236.1, 233.0, 238.2]},
        'decode4': {'hearth': [270.0, 262.0, 281.0], 'llama-server': [198.0, 190.0, 203.0], 'llama-batched-bench': [285.0, 280.0, 291.0]},
        'decode16': {'hearth': [330.0, 310.0, 334.0], 'llama-server': [226.0, 220.0, 231.0], 'llama-batched-bench': [340.0, 335.0, 343.0]},
        'prefill': {'hearth': [1290.0, 1250.0, 1311.0], 'llama-server': [950.0, 930.0, 970.0], 'llama-bench': [1416.0, 1400.0, 1430.0],
                    'llama-bench, same length': [1300.0, 1290.0, 1310.0]},
        **scheduling(),
        'gap': {'hearth': [210.0, 190.0, 260.0], 'llama-server': [1756.0, 1700.0, 1803.0]},
        'cost': {'hearth': [122.0, 119.0, 131.0], 'llama-server': [645.0, 630.0, 660.0]},
        'front': {'hearth': [14.1, 14.2, 14.1]},
        'binary': {'hearth': [26.4]},
    }
    curve = {s: [[scale * (1 + (i / 20) ** 6) for i in range(21)] for _ in range(3)] for s, scale in (('hearth', 12), ('llama-server', 20))}
    suite = types.SimpleNamespace(wanted=list(samples), save=lambda: None, results={
        'samples': samples, 'errors': ['gap of llama-server: <a stream ended>'],
        'tuning': {'llama-server': {'default': {'start': 800.0, 'decode1': 160.0}, 'fa off': {'start': 820.0, 'decode1': 166.0}}},
        'variants': {'hearth': {n: 'default' for n in samples}, 'llama-server': {'start': 'default', 'decode1': 'fa off'}},
        'plots': plots(), 'unavailable': {n: {'hearth': 'this hearth serve has no --cache-dir'}
                                          for n in ('resume', 'resume_kill', 'resume_equal')},
        'distributions': {'itl16': curve, 'ttft': curve},
        'memory': {'hearth': [[{'pid': 1, 'name': 'hearth', 'rss_kib': 14000, 'pss_kib': 9000, 'private_kib': 5000, 'anonymous_kib': 4000},
                               {'pid': 2, 'name': 'hearth', 'rss_kib': 400000, 'pss_kib': 395000, 'private_kib': 300000,
                                'anonymous_kib': 290000}]],
                   'llama-server': [[{'pid': 3, 'name': 'llama-server', 'rss_kib': 978000, 'pss_kib': 977000, 'private_kib': 976000,
                                      'anonymous_kib': 870000}]]},
        'seconds': {'shared': 61.0, 'stall': 12.5}, 'left_out': ['round 3 of shared'],
        'info': {'policies': {
            'costs': {'base_ms': 3.1, 'per_decode_ms': 1.2}, 'simulated': {'hearth': {'TTFT': 41.0}, 'plain': {'TTFT': 80.0}},
            'measured': {'hearth': {'TTFT': [40.0, 42.0]}, 'plain': {'TTFT': [90.0, 99.0]}},
            'differences': [['hearth', 'plain', 'TTFT', True]]}, 'commands': {'hearth, m.gguf, default': 'hearth serve --model m.gguf'}},
        'environment': {'date': '2026-11-21T12:00:00Z', 'cpu': 'Some <CPU> & more', 'cores': 2, 'memory': '24105 MB', 'kernel': '6.1',
                        'distribution': 'Debian', 'compiler': 'clang 19', 'commit': 'abc', 'load_average': 0.1, 'busy_share': 0.02,
                        'seconds': 1234.0},
        'options': {'quick': False, 'repeat': 3, 'threads': 2, 'figures': list(samples)},
        'model': {'name': 'm.gguf', 'bytes': 98362432, 'small': 's.gguf', 'parameters': 134515008},
        'machine': {'figures': {'int8': {'method': 'VPDPBUSD zmm', 'unit': 'Gop/s', 'single': [1070.0, 1069.0], 'all': 2150.0,
                                         'spread_percent': 1.0},
                                'read-memory': {'method': '512 MiB per core', 'unit': 'GB/s', 'single': [39.9, 39.0], 'all': 78.0,
                                                'spread_percent': 3.0}}},
        'greedy': {'prompts': 50, 'equal': 49, 'tokens': 48, 'differences': [{'prompt': 'A <b>?', 'hearth': 'x', 'llama-server': 'y'}]},
    })
    measure.Suite.judge(suite)
    assert set(suite.results['judged']) == set(figures.BY_NAME)
    return suite.results
