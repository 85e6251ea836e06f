#!/usr/bin/env python3
"""The benchmark suite: Hearth against llama.cpp's own programs, on the same machine, in the same run.

    ./dev bench [--quick] [--figures NAME,NAME] [--repeat N] [--out FOLDER]

Builds the peers from the pinned source (kept in the user's cache), runs both servers in turn, one at a time, compares
their greedy answers, measures the machine's own limits, and writes results.json, summary.md and report.html with plots
to bench/results/<time>/. The exit status is 1 when something could not be measured, 3 when --check was given and a
target was missed.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from suite import environment, figures, markdown, programs, report  # noqa: E402
from suite.measure import Suite  # noqa: E402
from suite.process import MeasureError  # noqa: E402
from suite.programs import ROOT, say  # noqa: E402
from suite.stage import Stage  # noqa: E402

ROUNDS_MIN, MAIN_SHARE = 2, 0.3  # of the figures of the machine; the share of the run's time after which no more are begun
QUIET_SHARE_MAX = 0.1  # of the cores busy with something else: above it the figures mean little


def parse(argv):
    parser = argparse.ArgumentParser(prog='./dev bench', description=__doc__.split('\n\n')[0],
                                     epilog='Figures: ' + '; '.join(f'{f.name} ({f.title.lower()})' for f in figures.FIGURES))
    parser.add_argument('--quick', action='store_true', help='2 repetitions, no search for the best flags of the peers')
    parser.add_argument('--figures', default=','.join(figures.BY_NAME), metavar='NAMES',
                        help='only these figures or scenes, separated by commas')
    parser.add_argument('--long', action='store_true', help='three times as much of the trace')
    parser.add_argument('--minutes', type=int, default=45, metavar='N',
                        help='begin no more rounds when the run would take longer (45); every figure is taken once at least')
    parser.add_argument('--repeat', type=int, metavar='N', help='repetitions of every figure (5; 2 with --quick)')
    parser.add_argument('--out', type=pathlib.Path, metavar='FOLDER', help='where the results go (bench/results/<time>)')
    parser.add_argument('--threads', type=int, default=2, metavar='N', help='compute threads of both servers (2)')
    parser.add_argument('--model', type=pathlib.Path, metavar='FILE', help='the model of all figures but cost (SmolLM2-135M-Instruct)')
    parser.add_argument('--small-model', type=pathlib.Path, metavar='FILE', help='the model of the figure cost (stories260K)')
    parser.add_argument('--swap-model', type=pathlib.Path, metavar='FILE',
                        help='the second model of the figure swap (one of the shape of Gemma 3 270M, made up)')
    parser.add_argument('--torch-python', type=pathlib.Path, metavar='FILE',
                        help='a Python that has sentence-transformers, for the figure embed (not measured without it)')
    parser.add_argument('--hearth', type=pathlib.Path, metavar='FILE', help='measure this binary instead of build/release/bin/hearth')
    parser.add_argument('--loadgen', type=pathlib.Path, metavar='FILE', help='drive with this hearth binary instead of the measured one')
    parser.add_argument('--data', type=pathlib.Path, default=programs.DATA, metavar='FOLDER',
                        help='public data for the figures speculation and trace (../shared/data)')
    parser.add_argument('--no-greedy', action='store_true', help='leave out the comparison of greedy answers')
    parser.add_argument('--check', action='store_true', help='exit with 3 when a target is missed')
    parser.add_argument('--render', type=pathlib.Path, metavar='FOLDER',
                        help='measure nothing: write the reports of the results.json there again')
    options = parser.parse_args(argv)
    options.figures = options.figures.split(',')
    if unknown := [n for n in options.figures if n not in figures.NAMES]:
        parser.error(f'unknown figure {unknown[0]}; there are {", ".join(figures.NAMES)}')
    options.figures = figures.select(options.figures)
    options.repeat = options.repeat if options.repeat is not None else 2 if options.quick else 5
    if not 1 <= options.repeat <= 100:
        parser.error(f'--repeat must be 1 to 100, got {options.repeat}')
    if not 1 <= options.minutes <= 1440:
        parser.error(f'--minutes must be 1 to 1440, got {options.minutes}')
    if not 1 <= options.threads <= 512:
        parser.error(f'--threads must be 1 to 512, got {options.threads}')
    return options


def locate(options):
    """Fills in the files to use; says what is missing and how to get it."""
    cache = programs.cache_folder()
    release = ROOT / 'build' / 'release' / 'bin' / 'hearth'
    options.model = options.model or cache / 'models' / 'SmolLM2-135M-Instruct.Q4_1.gguf'
    options.small_model = options.small_model or ROOT.parent / 'shared' / 'models' / 'stories260Ktok512.gguf'
    if options.hearth is None:
        subprocess.run([ROOT / 'dev', 'build'], check=True)
        options.hearth = release
    options.loadgen = options.loadgen or options.hearth
    source = pathlib.Path(os.environ.get('HEARTH_LLAMA_SOURCE') or cache / 'third_party' / 'llama.cpp')
    needed = {'--model': options.model, '--hearth': options.hearth, '--loadgen': options.loadgen,
              'llama.cpp source': source / 'include' / 'llama.h'}
    for what, path in needed.items():
        if not path.exists():
            raise MeasureError(f'{what}: {path} does not exist; ./dev setup fetches and ./dev build builds what the suite needs')
    if 'cost' in options.figures and not options.small_model.exists():
        say(f'no {options.small_model}: the figure cost is left out (name a model of next to no size with --small-model)')
        options.figures.remove('cost')
    return source, cache / 'peer-build'


def greedy_prompts():
    recorded = ROOT / 'tests' / 'integration' / 'greedy_expected.json'
    return [case['prompt'] for case in json.loads(recorded.read_text())['cases']]


def write_reports(results, folder):
    (folder / 'summary.md').write_text(markdown.render(results))
    (folder / 'report.html').write_text(report.render(results))


def measure(options, folder):
    source, peer_folder = locate(options)
    peers = programs.build_peers(source, peer_folder)
    suite = Suite(options, options.hearth, options.loadgen, peers, folder)
    results = suite.results
    results['environment'] = environment.describe(ROOT)
    results['environment']['peer_source'] = programs.source_version(source)[:200]
    results['options'] = {'quick': options.quick, 'repeat': options.repeat, 'threads': options.threads, 'figures': suite.wanted,
                          'long': options.long}
    if results['environment']['busy_share'] > QUIET_SHARE_MAX:
        say(f'WARNING: other work keeps {results["environment"]["busy_share"]:.0%} of the cores busy; these figures will mean little')
    results['model'] = {'name': options.model.name, 'bytes': options.model.stat().st_size, 'small': options.small_model.name}
    suite.note('the machine\'s own limits')
    results['machine'] = suite.attempt('machine limits', lambda: programs.bench_machine(options.loadgen, suite.raw_path('machine'))) or {}
    if 'binary' in suite.wanted:
        size = suite.attempt('binary', lambda: programs.stripped_bytes(options.hearth, folder))
        if size:
            suite.add('binary', figures.HEARTH, size / 1e6)
    if {*figures.MAIN, 'cost'} & set(suite.wanted):
        start = time.monotonic()
        suite.tune()
        for repetition in range(options.repeat):
            if repetition < ROUNDS_MIN or suite.has_time(0, MAIN_SHARE, f'round {repetition + 1} of decode and prefill'):
                suite.round(repetition)
        if not options.quick and {'decode1', 'prefill'} & set(suite.wanted):
            suite.arrivals()
        results['seconds']['decode and prefill'] = time.monotonic() - start
    stage = Stage(suite)
    stage.tune()
    for repetition in range(options.repeat):
        stage.round(repetition)
    stage.finish()
    if not options.no_greedy and set(figures.MAIN) & set(suite.wanted):
        suite.greedy(greedy_prompts())
    results['environment']['load_average_end'] = os.getloadavg()[0]
    results['environment']['seconds'] = time.monotonic() - suite.started
    suite.judge()
    return results


def main(argv):
    options = parse(argv)
    # A terminal's hang-up or a supervisor's end must also end the servers: as an exception it passes their `with`.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        if options.render:
            write_reports(json.loads((options.render / 'results.json').read_text()), options.render)
            say(f'wrote {options.render / "report.html"} and summary.md')
            return 0
        folder = (options.out or ROOT / 'bench' / 'results' / time.strftime('%Y-%m-%d-%H%M%S')).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        results = measure(options, folder)
        write_reports(results, folder)
    except MeasureError as error:
        say(f'error: {error}')
        return 1
    except KeyboardInterrupt:
        say('stopped')
        return 130
    print(markdown.table(results))
    say(f'report: {folder / "report.html"}')
    missed = [v for f in results['judged'].values() for v in f['verdicts'] if not v['met']]
    return 1 if results['errors'] else 3 if options.check and missed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
