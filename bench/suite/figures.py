"""The figures: what each one is, what it is compared with, what it should reach, and how the table is judged."""
import dataclasses

from . import stats

HEARTH = 'hearth'
SERVER = 'llama-server'
BENCH = 'llama-bench'
BATCHED = 'llama-batched-bench'
MIB = 1024.0


@dataclasses.dataclass(frozen=True)
class Target:
    """hearth against `subject`, as a ratio of medians; without a subject against the number itself."""
    subject: str | None
    limit: float
    at_most: bool

    def text(self, unit):
        sign = '≤' if self.at_most else '≥'
        return f'{sign} {self.limit:g}× {self.subject}' if self.subject else f'{sign} {self.limit:g} {unit}'

    def met(self, value):
        return value <= self.limit if self.at_most else value >= self.limit


@dataclasses.dataclass(frozen=True)
class Figure:
    name: str
    title: str
    unit: str
    lower_is_better: bool
    targets: tuple
    subjects: tuple  # in the order of the report; the first is Hearth
    how: str  # one sentence for the report

    def best(self, values):
        return min(values) if self.lower_is_better else max(values)


FIGURES = (
    Figure('start', 'Exec to ready, page cache warm', 'ms', True, (Target(SERVER, 0.25, True),), (HEARTH, SERVER),
           'From starting the process to the first 200 of /health, asked about every millisecond.'),
    Figure('rss', 'RSS after load, whole process tree', 'MiB', True, (Target(SERVER, 0.5, True),), (HEARTH, SERVER),
           'Sum of Rss over the process tree, before the first request, with room for 16 sequences of 2,048 tokens.'),
    Figure('decode1', 'One stream, decode', 'tokens/s', False, (Target(BENCH, 0.92, False),), (HEARTH, SERVER, BENCH),
           'Through HTTP: 1 / median TPOT of 128 tokens after a 16-token prompt. llama-bench: tg128, no HTTP, no sampling.'),
    Figure('decode4', '4 streams, aggregate decode', 'tokens/s', False, (Target(BATCHED, 0.92, False), Target(SERVER, 1.0, False)),
           (HEARTH, SERVER, BATCHED),
           'Tokens after each first one / time from the first to the last output; 128 tokens each, 16-token prompts.'),
    Figure('decode16', '16 streams, aggregate decode', 'tokens/s', False, (Target(BATCHED, 0.92, False), Target(SERVER, 1.0, False)),
           (HEARTH, SERVER, BATCHED), 'As with 4 streams.'),
    Figure('prefill', 'Prefill of 1,000 words', 'tokens/s', False, (Target(BENCH, 0.92, False),),
           (HEARTH, SERVER, BENCH, 'llama-bench, same length'),
           'Prompt tokens not cached / TTFT of a chat request. llama-bench: pp512, and for information a prompt of the same length.'),
    Figure('gap', 'Worst gap of 3 streams while a 2,000-token prompt arrives', 'ms', True, (Target(SERVER, 0.2, True),), (HEARTH, SERVER),
           'Longest time without a token in any of three running streams, from the arrival of the prompt until all have gone on.'),
    Figure('cost', 'Serving CPU per streamed token, 64 streams', 'µs', True, (Target(SERVER, 0.5, True),), (HEARTH, SERVER),
           'User and system time of the whole process tree / output tokens, with stories260K, whose computation is next to nothing.'),
    Figure('front', 'Idle RSS of the front process', 'MB', True, (Target(None, 20, True),), (HEARTH,),
           'Rss of the process that owns the sockets, after load, before the first request.'),
    Figure('binary', 'CPU binary, stripped', 'MB', True, (Target(None, 25, True),), (HEARTH,), 'Bytes after strip.'),
)
BY_NAME = {f.name: f for f in FIGURES}
# Of one visit to a server with the main model, in this order.
MAIN = ('start', 'rss', 'front', 'decode1', 'decode4', 'decode16', 'prefill', 'gap')


def judge(figure, samples):
    """What the table says: spread per subject, ratios, and per target whether it is met (None: not measured)."""
    spreads = {subject: stats.spread(samples[subject]) for subject in figure.subjects if samples.get(subject)}
    ours = spreads.get(HEARTH, {}).get('median')
    verdicts = []
    for target in figure.targets:
        theirs = spreads.get(target.subject, {}).get('median') if target.subject else None
        value = stats.ratio(ours, theirs) if target.subject else ours
        verdicts.append({'subject': target.subject, 'text': target.text(figure.unit), 'value': value,
                         'met': None if value is None else target.met(value)})
    return {'spreads': spreads, 'verdicts': verdicts}


def choose_variants(tuning):
    """tuning: {variant: {figure: value}} of one subject -> {figure: best variant}; the first one wins a draw."""
    chosen = {}
    for variant, values in tuning.items():
        for name, value in values.items():
            figure = BY_NAME[name]
            best = tuning[chosen[name]][name] if name in chosen else None
            if best is None or (value < best if figure.lower_is_better else value > best):
                chosen[name] = variant
    return chosen


def shares(results):
    """Figures as shares of what this machine can do: [(what, value, of, share)]."""
    machine, model = results.get('machine', {}).get('figures', {}), results.get('model', {})
    rows = []

    def add(what, rate, unit_work, machine_name, unit):
        limit = machine.get(machine_name, {}).get('all')
        if rate and unit_work and limit:
            rows.append({'what': what, 'value': rate * unit_work / 1e9, 'unit': unit, 'limit': limit, 'of': machine_name,
                         'share': rate * unit_work / 1e9 / limit})

    medians = {name: f['spreads'] for name, f in results.get('judged', {}).items()}
    for subject in (HEARTH, SERVER, BENCH):
        decode = medians.get('decode1', {}).get(subject, {}).get('median')
        add(f'{subject}: weights read, one stream', decode, model.get('bytes'), 'read-memory', 'GB/s')
    for subject in (HEARTH, SERVER, BENCH):
        prefill = medians.get('prefill', {}).get(subject, {}).get('median')
        add(f'{subject}: multiply-adds, prefill', prefill, 2 * model.get('parameters', 0), 'int8', 'Gop/s')
    return rows
