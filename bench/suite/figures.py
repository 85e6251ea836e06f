"""The figures: what each one is, what it is compared with, what it should reach, and how the table is judged."""
import dataclasses

from . import stats

HEARTH = 'hearth'
SERVER = 'llama-server'
BENCH = 'llama-bench'
BATCHED = 'llama-batched-bench'
UNCACHED, UNBOUNDED = 'llama-server, no host cache', 'unbounded cache'
A_SLOT_EACH = 'llama-server, a slot for each user'
CURL, CURL_AND_SYNC, CURL_AND_HASH = 'curl', 'curl and sync', 'curl and sha256sum'
TORCH = 'sentence-transformers'
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
    scene: str = ''  # the scene that takes it; empty: see measure.py
    chart: bool = True  # a bar chart of its own

    def best(self, values):
        return min(values) if self.lower_is_better else max(values)


MACHINE = (
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
    Figure('cost', 'Serving CPU per streamed token, 64 streams', 'µs', True, (Target(SERVER, 0.5, True),), (HEARTH, SERVER),
           'User and system time of the whole process tree / output tokens, with stories260K, whose computation is next to nothing.'),
    Figure('front', 'Idle RSS of the front process', 'MB', True, (Target(None, 20, True),), (HEARTH,),
           'Rss of the process that owns the sockets, after load, before the first request.'),
    Figure('binary', 'CPU binary, stripped', 'MB', True, (Target(None, 25, True),), (HEARTH,), 'Bytes after strip.'),
)
# Of the scheduler and its caches, and of models that come and go: taken by suite/scenes/.
BOTH = (HEARTH, SERVER)
SCHEDULING = (
    Figure('shared', 'TTFT of four other users with the same 2,000-token system prompt', 'ms', True, (Target(SERVER, 0.03, True),), BOTH,
           'Median of four at once, each with a question of its own, after a first user has had an answer.', 'shared'),
    Figure('shared_cold', 'TTFT of the first user with that prompt', 'ms', True, (), BOTH, 'Nothing of it was computed before.', 'shared'),
    Figure('shared_warm', 'TTFT of the same user again, against the first time', '% of cold', True, (Target(None, 5, True),), BOTH,
           'The same request once more.', 'shared'),
    Figure('shared_fresh', 'TTFT of four users at once, a prompt nobody had before', 'ms', True, (), BOTH,
           'Median of four; the prompt they share is new.', 'shared'),
    Figure('beside', 'Interactive TTFT p95 beside eight busy clients', 'ms', True, (), BOTH,
           'Short questions, one after the other, class interactive where the server has classes; eight clients in closed loops send '
           'prompts of 600 tokens for answers of 100.', 'beside'),
    Figure('beside_ratio', 'The same against the same questions alone', '× alone', True, (Target(None, 3, True),), BOTH,
           'p95 beside the eight / p95 with nobody beside, in the same visit.', 'beside'),
    Figure('gap', 'Worst gap of 3 streams while a 2,000-token prompt arrives', 'ms', True,
           (Target(SERVER, 0.2, True), Target(None, 120, True)), BOTH,
           'Longest time without a token in any of three running streams, from the arrival of the prompt until all have gone on.', 'stall'),
    Figure('gap_8000', 'Worst gap of 3 streams while an 8,000-token prompt arrives', 'ms', True, (Target(None, 120, True),), BOTH,
           'As with 2,000 tokens.', 'stall'),
    Figure('stall_itl', 'Evenness of the streams while the 8,000-token prompt is read', '× p50', True, (Target(None, 1.5, True),), BOTH,
           'p99 / p50 of the gaps between tokens from the arrival of the prompt to its first token; tokens within 1 ms, as those guessed '
           'ahead, count as one.', 'stall'),
    Figure('resume', 'Resuming an 8,000-token chat after a restart', '× faster', False, (Target(None, 20, False),), BOTH,
           'TTFT of the next turn on a server that never saw the chat / on one restarted with SIGTERM. llama-server: its slot, saved and '
           'restored on request; restoring counts.', 'resume'),
    Figure('resume_kill', 'The same after SIGKILL', '× faster', False, (Target(None, 20, False),), BOTH, 'As after SIGTERM.', 'resume'),
    Figure('resume_equal', 'Continuations that equal the recomputed one', '%', False, (Target(None, 100, False),), BOTH,
           'Greedy texts of the resumed chat and of the same chat on a server that never saw it.', 'resume', False),
    Figure('rss_chats1', 'RSS with 1 running chat, context setting 32k', 'MiB', True, (Target(SERVER, 0.35, True),), BOTH,
           'Sum of Rss over the process tree while the chat streams; room for 16 chats of 2,048 tokens.', 'chats'),
    Figure('rss_chats16', 'RSS with 16 running chats, context setting 32k', 'MiB', True, (Target(SERVER, 0.35, True),), BOTH,
           'As with one chat.', 'chats'),
    Figure('spec_copy', 'Speculation, answers that copy', '× without', False, (Target(None, 1.8, False),), BOTH,
           'Decode tokens/s of 12 prompts (repeat a text, JSON with one change, edit code) with guessing / without. llama-server: '
           'best of its kinds that need no second model.',
           'speculation'),
    Figure('spec_chat', 'Speculation, ordinary chat', '× without', False, (Target(None, 1.0, False),), BOTH,
           'As with answers that copy, 12 questions.', 'speculation'),
    Figure('spec_rate', 'Decode of answers that copy, with speculation', 'tokens/s', False, (), BOTH, 'The first of the two rates above.',
           'speculation'),
    Figure('spec_floor', 'Speculation, the slowest of all prompts', '× without', False, (Target(None, 0.98, False),), (HEARTH,),
           'Per prompt the median of pairs in turn, with guessing / without; the smallest of them. Prompts below 1.1 after the first '
           'pairs (1 of those that copy, 5 of chat) are asked 15 times more.', 'speculation', False),
    Figure('spec_noise', 'Speculation, the slowest of those prompts, without against without', '×', False, (), (HEARTH,),
           'The floor above if guessing cost nothing: such a prompt is asked once more without it, in turn with the two others.',
           'speculation', False),
    Figure('spec_equal', 'Speculation, equal texts', '%', False, (Target(None, 100, False),), BOTH,
           'Greedy texts with guessing and without.', 'speculation', False),
    Figure('busy', 'Decode beside one busy foreign process per core', '× quiet', False, (Target(None, 0.4, False),),
           (HEARTH, SERVER, BENCH),
           'Tokens/s of one stream of 128 tokens (llama-bench: 16) beside processes that compute without end / without them.', 'busy'),
    Figure('burst_answered', '500 requests at once: answered', 'requests', False, (), BOTH, 'Status 200 and a complete stream within 90 s.',
           'burst', False),
    Figure('burst_refused', '500 requests at once: refused', 'requests', True, (), BOTH, 'Status 429 with Retry-After.', 'burst', False),
    Figure('burst_other', '500 requests at once: any other end', 'requests', True, (Target(None, 0, True),), BOTH,
           'Errors, broken streams, closed connections.', 'burst', False),
    Figure('burst_hung', '500 requests at once: no end within 90 s', 'requests', True, (Target(None, 0, True),), BOTH,
           'Neither an answer nor a refusal.', 'burst', False),
    Figure('burst_after', 'TTFT of one request right after them', 'ms', True, (Target(None, 1000, True),), BOTH,
           'Those without an end are disconnected first; 30,000: not answered within 30 s.', 'burst', False),
    Figure('overload_goodput', 'Goodput at 10 times the capacity', '% of peak', False, (Target(None, 95, False),), BOTH,
           'Complete answers per second while requests arrive at random, 10 times as many as 16 clients in closed loops got answered. The '
           'crowd comes from `hearth bench serve` in all phases, and two interactive questions a second, whose answers do not '
           'count, go on in all. The peak is the mean of one before and one after. Rates are taken between two answers, the first after '
           '4 s and the first after the phase\'s end, as '
           'answers come in waves.',
           'overload'),
    Figure('overload_reject', 'Overload: the slowest refusal', 'ms', True, (Target(None, 10, True),), BOTH,
           'From sending a request to its status 429.', 'overload', False),
    Figure('overload_silent', 'Overload: silent time-outs', 'requests', True, (Target(None, 0, True),), BOTH,
           'Neither an answer nor a refusal within 25 s.', 'overload', False),
    Figure('overload_other', 'Overload: any other end', 'requests', True, (Target(None, 0, True),), BOTH,
           'Errors, broken streams, closed connections.', 'overload', False),
    Figure('overload_high', 'Overload: interactive TTFT p99', '× unloaded', True, (Target(None, 1.2, True),), BOTH,
           'Two short questions a second, class interactive where the server has classes, against the p99 of the same alone. A '
           'question without an answer counts as 25 s.', 'overload'),
    Figure('trace', 'Prompt tokens computed on the Mooncake conversation trace', 'tokens', True,
           (Target(UNBOUNDED, 1.1, True), Target(UNCACHED, 0.5, True), Target(SERVER, 1.0, True)), (HEARTH, SERVER, UNCACHED, UNBOUNDED),
           'Sum of usage.prompt_tokens less cached_tokens. One of 60 conversations, lengths / 32, at most 1,900 tokens, 8 requests at a '
           'time in the order of the trace; 16,384 cells of KV; host memory: Hearth 2 GiB, llama-server by default 8 GiB, '
           'either of which holds this much of the trace (docs/scheduler.md has all of it, simulated). The '
           'unbounded cache is counted from the trace\'s block hashes. It computes 57 % of these tokens itself, what is new in each '
           'request (61 % with --quick, 63 % of the whole trace at 1 / 16), and nobody computes more than all: half of llama-server\'s '
           'is out of reach by arithmetic.',
           'replay'),
    Figure('trace_time', 'Time for that trace', 's', True, (), (HEARTH, SERVER, UNCACHED), 'From the first request to the last end.',
           'replay', False),
)
KINDS = {'hybrid': 'LFM2-shaped model (hybrid)', 'window': 'Gemma-3-shaped model (SWA)'}
SITUATIONS = {
    'chats': ('6 users in turn',
              'Sum over all requests of prompt tokens that were not cached; 48 requests (8 turns) with the whole chat so far. Both '
              'servers have 4 sequences (llama-server\'s default number of slots) and 16,384 cells of KV; a slot for each user, '
              'without host cache, is measured beside. The unbounded cache is counted over the tokens of the same chats.'),
    'shared': ('6 users of one system prompt', 'As with chats; 6 requests at once, a system prompt of 2,000 tokens.'),
}
SCHEDULING += tuple(
    Figure(f'{kind}_{situation}', f'{model}, {title}: prompt tokens computed', 'tokens', True,
           (Target(UNBOUNDED, 1.05, True), Target(UNCACHED, 0.3, True), Target(SERVER, 1.0, True)),
           (HEARTH, SERVER, UNCACHED, A_SLOT_EACH, UNBOUNDED), how, kind)
    for kind, model in KINDS.items() for situation, (title, how) in SITUATIONS.items())
SCHEDULING += (
    Figure('sim_order', 'Pairs of policies that the simulator orders as measured', 'of 6', False, (Target(None, 1, False),), (HEARTH,),
           'Four policies played to a real server and simulated with costs learnt from it. A pair counts when each of its figures that '
           'differs by more than the spread of the rounds differs the same way in the simulation.', 'policies', False),
    Figure('sim_agree', 'Clear differences between policies that the simulator has the right way round', '%', False, (), (HEARTH,),
           'Of all pairs and figures whose measured difference exceeds the spread of the rounds.', 'policies', False),
    Figure('tree', 'Tree look-up of a 32k-token prompt in a tree of 1 M tokens, p99', 'µs', True, (Target(None, 200, True),), (HEARTH,),
           '`hearth bench tree`: prompts that are in the tree to their end, each looked up with the processor\'s caches full of other '
           'things.', 'tree', False),
)
SCHEDULING += (
    Figure('swap', 'Swap of models, request to first token', 'ms', True, (Target(SERVER, 0.15, True), Target(None, 250, True)), BOTH,
           'SmolLM2 and a model of the shape of Gemma 3 270M in turn, room for one, page cache warm: median of 8 streams of a visit. '
           'Hearth has a budget in bytes for one of them, llama-server\'s router --models-max 1.', 'swap'),
    Figure('swap_worst', 'The slowest of these swaps', 'ms', True, (), BOTH, 'The largest of the 8 of a visit.', 'swap', False),
    Figure('swap_equal', 'Swapped models that say the same', '%', False, (Target(None, 100, False),), (HEARTH,),
           'Greedy texts of SmolLM2 after each swap, of both servers, that equal llama-server\'s first one.', 'swap', False),
    Figure('pull', 'Pull of 1.07 GB from this machine', 'MB/s', False, (Target(CURL, 0.9, False),),
           (HEARTH, CURL, CURL_AND_SYNC, CURL_AND_HASH),
           'Bytes / time of the whole command. Hearth hashes and waits for the disk, curl does neither; `curl and sync` waits for the disk '
           'when all has come.', 'pull'),
    Figure('pull_cpu', 'Processor time of it', 's', True, (Target(CURL_AND_HASH, 1.5, True),),
           (HEARTH, CURL, CURL_AND_SYNC, CURL_AND_HASH),
           'User and system time of the command.', 'pull'),
    Figure('embed', 'Texts embedded, 1,000 short ones, MiniLM, 8-bit weights', 'texts/s', False,
           (Target(SERVER, 1.5, False), Target(TORCH, 3, False)), (HEARTH, SERVER, TORCH),
           'All in one request, and in requests of 50 over four connections: the better of the two. Both servers read the same file, of '
           'the profile `quality` (Q8_0). sentence-transformers computes the published 32 bits in its own process, without a server, the '
           'best of three batch sizes.', 'embed'),
    Figure('embed_f16', 'The same with 16-bit weights', 'texts/s', False, (), BOTH, 'F16: nothing is lost that can be seen.', 'embed'),
    Figure('embed_equal', 'Smallest cosine between both servers\' vectors', 'cosine', False, (Target(None, 0.9999, False),), (HEARTH,),
           'Of 100 of these texts, with 16-bit weights.', 'embed', False),
    Figure('embed_rounded', 'Smallest cosine between the vectors of 8-bit and of 16-bit weights', 'cosine', False, (), (HEARTH,),
           'Of these 100 texts: what the 8 bits cost.', 'embed', False),
)
FIGURES = MACHINE + SCHEDULING
BY_NAME = {f.name: f for f in FIGURES}
# Of one visit to a server with the main model, in this order.
MAIN = ('start', 'rss', 'front', 'decode1', 'decode4', 'decode16', 'prefill')
NAMES = tuple(f.name for f in FIGURES) + tuple(dict.fromkeys(f.scene for f in SCHEDULING if f.scene not in BY_NAME))


def select(names):
    """The figures, in their order, that `names` stand for; the name of a scene stands for all of its figures."""
    return [f.name for f in FIGURES if f.name in names or f.scene in names]


def judge(figure, samples, unavailable=None):
    """What the table says: spread per subject, ratios, per target whether it is met (None: not measured), and who lacks it and why."""
    spreads = {subject: stats.spread(samples[subject]) for subject in figure.subjects if samples.get(subject)}
    ours = spreads.get(HEARTH, {}).get('median')
    verdicts = []
    for target in figure.targets:
        theirs = spreads.get(target.subject, {}).get('median') if target.subject else None
        value = stats.ratio(ours, theirs) if target.subject else ours
        verdicts.append({'subject': target.subject, 'text': target.text(figure.unit), 'value': value,
                         'met': None if value is None else target.met(value)})
    return {'spreads': spreads, 'verdicts': verdicts, 'unavailable': dict(unavailable or {})}


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
