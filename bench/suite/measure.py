"""How the figures are taken: one server at a time, both in turn, in every repetition."""
import json
import pathlib
import time

from . import figures, programs, stats
from .figures import BATCHED, BENCH, HEARTH, SERVER
from .process import MeasureError, Server, free_port, memory, warm
from .programs import Load, say

SEQUENCES, CONTEXT = 16, 2048
SMALL_SEQUENCES, SMALL_CONTEXT = 64, 128
OUTPUT_TOKENS = 128
DECODE_PROMPT = 16
GREEDY_TOKENS = 48
# Alone, in full: no reuse of an earlier prompt, an end where the model ends.
GREEDY_OPTIONS = {'concurrency': 1, 'warmup': 0, 'stop-at-eos': True, 'keep-text': True, 'output-tokens': GREEDY_TOKENS,
                  'extra-body': '{"cache_prompt":false}'}


class Suite:
    """One run. `results` is what results.json holds; it is written after every step, so that nothing measured is lost."""

    def __init__(self, options, hearth, loadgen, peers, folder):
        self.options, self.hearth, self.loadgen, self.peers, self.folder = options, hearth, loadgen, peers, pathlib.Path(folder)
        self.raw = self.folder / 'raw'
        self.raw.mkdir(parents=True, exist_ok=True)
        self.main = Load(options.model, SEQUENCES, CONTEXT)
        self.small = Load(options.small_model, SMALL_SEQUENCES, SMALL_CONTEXT)
        self.wanted = figures.select(options.figures)
        self.results = {'samples': {}, 'tuning': {}, 'variants': {}, 'distributions': {}, 'memory': {}, 'errors': [], 'info': {},
                        'plots': {}, 'unavailable': {}, 'seconds': {}, 'left_out': []}
        self.started = time.monotonic()
        self.counter = 0
        self.taken = {}  # see Visit.once()
        self.known_flags = None

    # --- bookkeeping

    def save(self):
        (self.folder / 'results.json').write_text(json.dumps(self.results, indent=1, ensure_ascii=False) + '\n')

    def note(self, text):
        say(f'[{time.monotonic() - self.started:6.0f} s] {text}')

    def add(self, name, subject, value):
        self.results['samples'].setdefault(name, {}).setdefault(subject, []).append(value)

    def raw_path(self, label):
        self.counter += 1
        return self.raw / f'{self.counter:03d}-{label.replace(" ", "-").replace(",", "")}.json'

    def attempt(self, what, action):
        """Runs `action`; a failure is noted in the results and does not end the suite."""
        try:
            return action()
        except (MeasureError, OSError, ValueError, KeyError) as error:
            self.note(f'FAILED {what}: {error}')
            self.results['errors'].append(f'{what}: {error}')
            self.save()
            return None

    def has_time(self, seconds, share, what):
        """Whether `seconds` more leave this share of the run's time unspent; what is left out is in the results."""
        limit = self.options.minutes * 60
        if time.monotonic() - self.started + seconds <= share * limit:
            return True
        self.note(f'no time for {what}: the run is to end within {self.options.minutes} minutes')
        self.results['left_out'].append(what)
        return False

    # --- servers

    def server(self, subject, load, variant):
        return self.start(subject, load, self.variants(subject, load)[variant], f'{subject}, {load.model.name}, {variant}')

    def start(self, subject, load, flags, label):
        """A server of its own start; `label` names its command in the report."""
        port = free_port()
        threads = self.options.threads
        if subject == HEARTH and '--cache-disk' in self.hearth_flags() and '--cache-disk' not in flags:
            flags = [*flags, '--cache-disk', '0']  # what an earlier start computed must not help
        argv = (programs.hearth_server(self.hearth, load, threads, flags, port) if subject == HEARTH
                else programs.llama_server(self.peers, load, threads, flags, port))
        warm(argv[0], load.model)
        self.results['info'].setdefault('commands', {})[label] = programs.shown(argv)
        return Server(argv, port, self.raw_path(label.replace('/', '-')).with_suffix('.log'))

    def hearth_flags(self):
        if self.known_flags is None:
            self.known_flags = programs.hearth_flags(self.hearth)
        return self.known_flags

    def variants(self, subject, load):
        if subject == HEARTH:
            return programs.HEARTH_SMALL_VARIANTS if load is self.small else programs.HEARTH_VARIANTS
        return programs.LLAMA_SMALL_VARIANTS if load is self.small else programs.LLAMA_VARIANTS

    def drive(self, server, label, **options):
        named = {name.replace('_', '-'): value for name, value in options.items()}
        report = programs.bench_serve(self.loadgen, server, named, self.raw_path(label))
        if report['failed'] or not report['completed']:
            raise MeasureError(f'{label}: {report["failed"]} of {report["num_prompts"]} requests failed: {report["failures"]}')
        return report

    # --- one visit to a server

    def visit_main(self, subject, variant, wanted, seed):
        """{figure: value} of one start with the main model."""
        values = {}
        with self.server(subject, self.main, variant) as server:
            self.at_rest(subject, server, wanted, values)
            for name in ('decode1', 'decode4', 'decode16', 'prefill'):
                if name in wanted:
                    value = self.attempt(f'{name} of {subject}, {variant}', lambda n=name: getattr(self, n)(subject, server, seed))
                    if value is not None:
                        values[name] = value
        return values

    def at_rest(self, subject, server, wanted, values):
        if 'start' in wanted:
            values['start'] = server.ready_ms
        if not {'rss', 'front'} & set(wanted):
            return
        rows = memory(server.pid)
        self.results['memory'].setdefault(subject, []).append(rows)
        if 'rss' in wanted:
            values['rss'] = sum(r['rss_kib'] for r in rows) / figures.MIB
        if 'front' in wanted and subject == HEARTH:
            values['front'] = next(r['rss_kib'] for r in rows if r['pid'] == server.pid) * 1024 / 1e6

    def decode1(self, subject, server, seed):
        report = self.drive(server, f'{subject}-decode1', endpoint='completions', prompt_tokens=DECODE_PROMPT,
                            output_tokens=OUTPUT_TOKENS, concurrency=1, requests=3, seed=seed)
        return 1000 / report['median_tpot_ms']

    def decode_many(self, subject, server, seed, streams):
        report = self.drive(server, f'{subject}-decode{streams}', endpoint='completions', prompt_tokens=DECODE_PROMPT,
                            output_tokens=OUTPUT_TOKENS, concurrency=streams, requests=streams, warmup=streams, seed=seed)
        self.distribution(f'itl{streams}', subject, report['itl_quantiles_ms'])
        return report['decode_throughput']

    def decode4(self, subject, server, seed):
        return self.decode_many(subject, server, seed, 4)

    def decode16(self, subject, server, seed):
        return self.decode_many(subject, server, seed, 16)

    def prefill(self, subject, server, seed):
        report = self.drive(server, f'{subject}-prefill', prompt_words=1000, output_tokens=2, requests=2, seed=seed)
        self.results['info']['prefill_tokens'] = round(report['total_input_tokens'] / report['completed'])
        return report['median_prefill_per_s']

    def mixed(self, subject, server, seed):
        """For information: the TTFT of requests that arrive at random."""
        report = self.drive(server, f'{subject}-mixed', mode='poisson', rate=2, requests=30, prompt_words=100, output_tokens=32, seed=seed)
        self.distribution('ttft', subject, report['ttft_quantiles_ms'])
        return report

    def visit_small(self, subject, variant, seed):
        with self.server(subject, self.small, variant) as server:
            report = self.drive(server, f'{subject}-cost', endpoint='completions', prompt_words=8, output_tokens=64,
                                concurrency=SMALL_SEQUENCES, requests=4 * SMALL_SEQUENCES, warmup=SMALL_SEQUENCES, seed=seed)
            self.results['info'].setdefault('cost', {}).setdefault(subject, []).append(
                {'client_us': report['client_cpu_us_per_token'], 'tokens_per_s': report['output_throughput']})
            return report['server_cpu_us_per_token']

    def distribution(self, name, subject, quantiles):
        self.results['distributions'].setdefault(name, {}).setdefault(subject, []).append(quantiles)

    # --- the run

    def tune(self):
        """Tries every variant once and keeps, per figure, the best one. Samples of this pass do not count."""
        main = [n for n in figures.MAIN if n in self.wanted]
        for subject in (HEARTH, SERVER):
            names = list(self.variants(subject, self.main))
            names = names[:1] if self.options.quick else names
            table = {}
            if len(names) > 1 and main:
                for variant in names:
                    self.note(f'trying {subject}, {variant}')
                    kept = self.results['distributions'], self.results['memory']
                    self.results['distributions'], self.results['memory'] = {}, {}
                    table[variant] = self.attempt(f'trying {subject}, {variant}',
                                                  lambda v=variant, s=subject: self.visit_main(s, v, main, 7)) or {}
                    self.results['distributions'], self.results['memory'] = kept
                self.results['tuning'][subject] = table
            chosen = figures.choose_variants(table)
            self.results['variants'][subject] = {n: chosen.get(n, names[0]) for n in main}
            if 'cost' in self.wanted:
                self.results['variants'][subject]['cost'] = self.tune_small(subject)
        self.tune_bounds()
        self.save()

    def tune_small(self, subject):
        names = list(self.variants(subject, self.small))
        if self.options.quick:
            return names[0]
        table = {}
        for variant in names:
            self.note(f'trying {subject}, {self.small.model.name}, {variant}')
            value = self.attempt(f'trying {subject}, {variant}', lambda v=variant: self.visit_small(subject, v, 7))
            table[variant] = {} if value is None else {'cost': value}
        self.results['tuning'][f'{subject}, {self.small.model.name}'] = table
        return figures.choose_variants(table).get('cost', names[0])

    def tune_bounds(self):
        chosen = self.results['variants']
        for subject, variants, measure, names in (
                (BENCH, programs.FLASH, self.bound_bench, ('decode1', 'prefill')),
                (BATCHED, programs.BATCHED_VARIANTS, self.bound_batched, ('decode4', 'decode16'))):
            names, table = [n for n in names if n in self.wanted], {}
            if self.options.quick or not names:
                chosen[subject] = {n: next(iter(variants)) for n in names}
                continue
            for variant in variants:
                self.note(f'trying {subject}, {variant}')
                table[variant] = self.attempt(f'trying {subject}, {variant}', lambda v=variant, m=measure: m({None: v})) or {}
            self.results['tuning'][subject] = table
            chosen[subject] = figures.choose_variants({v: {n: x for n, x in t.items() if n in names} for v, t in table.items()})

    def bound_bench(self, chosen):
        """{figure: tokens/s} of llama-bench; `chosen` maps a figure to its variant, None to that of all."""
        values = {}
        same = self.results['info'].get('prefill_tokens', 0)
        for variant in dict.fromkeys(chosen.values()):
            rates, self.results['model']['parameters'] = programs.llama_bench(
                self.peers, self.main.model, self.options.threads, [512] + [same] * (same > 0), OUTPUT_TOKENS, programs.FLASH[variant],
                self.raw_path(f'llama-bench-{variant}'))
            for name, row in (('decode1', f'tg{OUTPUT_TOKENS}'), ('prefill', 'pp512'), ('same', f'pp{same}')):
                if row in rates and chosen.get(name if name != 'same' else 'prefill', chosen.get(None)) == variant:
                    values[name] = rates[row]
        return values

    def bound_batched(self, chosen):
        values = {}
        streams = [s for s in (4, 16) if f'decode{s}' in self.wanted]
        for variant in dict.fromkeys(chosen.values()):
            mine = [s for s in streams if chosen.get(f'decode{s}', chosen.get(None)) == variant]
            if mine:
                rates = programs.batched_bench(self.peers, self.main, self.options.threads, DECODE_PROMPT, OUTPUT_TOKENS, mine,
                                               programs.BATCHED_VARIANTS[variant], self.raw_path(f'batched-bench-{variant}'))
                values.update({f'decode{s}': rates[s] for s in mine})
        return values

    def bounds(self):
        chosen = self.results['variants']
        if {'decode1', 'prefill'} & set(self.wanted) and chosen.get(BENCH):
            for name, value in (self.attempt(BENCH, lambda: self.bound_bench(chosen[BENCH])) or {}).items():
                if name == 'same':
                    self.add('prefill', 'llama-bench, same length', value)
                elif name in self.wanted:
                    self.add(name, BENCH, value)
        if {'decode4', 'decode16'} & set(self.wanted) and chosen.get(BATCHED):
            for name, value in (self.attempt(BATCHED, lambda: self.bound_batched(chosen[BATCHED])) or {}).items():
                self.add(name, BATCHED, value)

    def round(self, repetition):
        """Every wanted figure once per subject; who comes first changes from round to round."""
        order = (HEARTH, SERVER) if repetition % 2 == 0 else (SERVER, HEARTH)
        seed = 1000 * (repetition + 1)
        for subject in order:
            chosen = self.results['variants'][subject]
            groups = {}
            for name in figures.MAIN:
                if name in chosen:
                    groups.setdefault(chosen[name], []).append(name)
            for variant, names in groups.items():
                what = f'round {repetition + 1}: {subject}, {variant}: {" ".join(names)}'
                self.note(what)
                for name, value in (self.attempt(what, lambda v=variant, n=names, s=subject: self.visit_main(s, v, n, seed)) or {}).items():
                    self.add(name, subject, value)
        self.note(f'round {repetition + 1}: {BENCH}, {BATCHED}')
        self.bounds()
        if 'cost' in self.wanted:
            for subject in order:
                variant = self.results['variants'][subject]['cost']
                self.note(f'round {repetition + 1}: {subject}, {self.small.model.name}, {variant}')
                value = self.attempt(f'cost of {subject}', lambda v=variant, s=subject: self.visit_small(s, v, seed))
                if value is not None:
                    self.add('cost', subject, value)
        self.save()

    def arrivals(self):
        """For information: one visit each with Poisson arrivals."""
        for subject in (HEARTH, SERVER):
            self.note(f'Poisson arrivals: {subject}')

            def visit(s=subject):
                with self.server(s, self.main, next(iter(self.variants(s, self.main)))) as server:
                    return self.mixed(s, server, 5)
            self.attempt(f'Poisson arrivals of {subject}', visit)
        self.save()

    def greedy(self, prompts):
        """The correctness gate: both servers answer the same prompts, one at a time, greedily."""
        path = self.folder / 'raw' / 'greedy-prompts.jsonl'
        path.write_text(''.join(json.dumps(p) + '\n' for p in prompts))
        answers = {}
        for subject in (HEARTH, SERVER):
            self.note(f'greedy answers: {subject}')

            def visit(s=subject):
                with self.server(s, self.main, next(iter(self.variants(s, self.main)))) as server:
                    options = {name.replace('-', '_'): value for name, value in GREEDY_OPTIONS.items()}
                    return self.drive(server, f'{s}-greedy', prompts=path, requests=len(prompts), **options)
            report = self.attempt(f'greedy answers of {subject}', visit)
            if report:
                answers[subject] = report['generated_texts']
        if len(answers) == 2:
            pairs = list(zip(prompts, answers[HEARTH], answers[SERVER]))
            self.results['greedy'] = {'prompts': len(pairs), 'equal': sum(a == b for _, a, b in pairs), 'tokens': GREEDY_TOKENS,
                                      'differences': [{'prompt': p, HEARTH: a, SERVER: b} for p, a, b in pairs if a != b]}
        self.save()

    def judge(self):
        unavailable = self.results.get('unavailable', {})
        self.results['judged'] = {n: figures.judge(figures.BY_NAME[n], self.results['samples'].get(n, {}), unavailable.get(n))
                                  for n in self.wanted}
        self.results['shares'] = figures.shares(self.results)
        # One curve per subject: the median of each quantile over the rounds.
        self.results['curves'] = {name: {subject: [stats.median(column) for column in zip(*runs)] for subject, runs in by.items()}
                                  for name, by in self.results['distributions'].items()}
        self.save()
