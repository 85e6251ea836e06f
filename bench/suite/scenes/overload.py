"""Ten times more requests than the server can answer, and a trickle of interactive ones among them.

The crowd is sent by `hearth bench serve`, which costs the server next to nothing of the cores they share; only the trickle, which goes on
in all phases, is sent from here. So the peak and what is left of it in the overload are of the same server beside the same clients. The
peak is taken before and after: machines get slower and faster by a tenth from one minute to the next. For the same reason the trickle
is alone for as long as it is in the overload, half of it before all else and half after: slow moments of the machine are then in both of
what is compared.
"""
import asyncio
import collections
import dataclasses
import time

from .. import crowd, environment, programs, stats
from ..process import MeasureError
from .base import Scene

PROMPT, OUTPUT, CLIENTS = 50, 32, 16
QUESTION, REPLY = 20, 4
RAMP_S = 4  # what does not count at the start of either phase
PEAK_S = 20  # after it, of the search for the peak
OVERLOAD_S = 60  # with the ramp
FACTOR = 10
STREAMS_MAX = 4096  # of the client
PATIENCE_S = 20  # what Hearth is told a request may take
MARGIN_S = 5  # beyond it a request without an end was forgotten
RATE_MAX = STREAMS_MAX // (PATIENCE_S + MARGIN_S)  # arrivals per second, none of which must wait for a place in the client
TRICKLE_S, ALONE_S = 0.5, OVERLOAD_S / 2
START_S = 2  # of the crowd's client, which goes before the server and writes thousands of prompts: no question meets that
WATCH_S = 1.0  # how often Hearth is asked what its scheduler does


@dataclasses.dataclass
class Phase:
    """One part of the scene: what was asked, and what it took to ask."""
    seconds: float  # nothing was sent after them
    crowd: list
    few: list  # the trickle
    costs: dict  # seconds of processor time: of the crowd's client, the trickle's, the server
    seen: list = dataclasses.field(default_factory=list)  # what watch() saw


async def trickle(visit, client, extra, name, seconds, after=0.0):
    """Answers to a question every half second, from `after` on."""
    sent, start = [], time.perf_counter()
    await asyncio.sleep(after)
    while time.perf_counter() < start + seconds:
        body = client.body(visit.text(QUESTION, f'{name} {len(sent)}'), REPLY, **extra)
        sent.append(client.start(body, timeout_s=PATIENCE_S + MARGIN_S))
        await asyncio.sleep(TRICKLE_S)
    await asyncio.gather(*(task for task, _ in sent))  # each ends by its own time limit
    return [answer for _, answer in sent]


def scheduler_of(view):
    """What /api/v1/engine says, as far as it tells why requests waited."""
    model = view['models'][0]
    engine, normal = model['engine'], model['queue']['normal']
    return {'purse_ms': engine['steps']['interruption_purse_ms'], 'interrupted': engine['steps']['interrupted'],
            'steps': engine['steps']['total'], 'sequences': len(engine['sequences']), 'preemptions': engine['kv']['preemptions'],
            'waiting': normal['waiting'], 'predicted_wait_s': normal['predicted_wait_s']}


async def watch(visit, client, seconds):
    """Hearth's scheduler second by second: `at` seconds after the start."""
    seen, start = [], time.perf_counter()
    while visit.is_hearth and (at := time.perf_counter() - start) < seconds:
        status, view = await client.json('GET', '/api/v1/engine')
        if status == 200 and view['models'][0]['engine']:
            seen.append({'at': at, **scheduler_of(view)})
        await asyncio.sleep(WATCH_S)
    return seen


async def phase(visit, server, client, extra, name, seconds, **options):
    """A crowd for so many seconds, and the trickle beside it."""
    own = time.process_time()
    (answers, report), few, seen = await asyncio.gather(
        crowd.run(visit, server, f'overload-{name}', seconds + 3 * (PATIENCE_S + MARGIN_S), duration=seconds, prompt_words=PROMPT,
                  output_tokens=OUTPUT, request_timeout=PATIENCE_S + MARGIN_S, **options),
        trickle(visit, client, extra, f'trickle, {name},', seconds, START_S), watch(visit, client, seconds))
    costs = {'client_cpu_s': report['client_cpu_s'], 'trickle_cpu_s': time.process_time() - own, 'server_cpu_s': report['server_cpu_s'],
             'send_lag_ms_max': report['send_lag_ms_max']}
    return Phase(seconds, answers, few, costs, seen)


def rate_of(answers, begin, end):
    """Complete answers per second of about [begin, end).

    From the first answer in it to the first one after it: clients that wait for each other's steps have their answers in waves, of which
    the window would hold one more or one less by chance.
    """
    ends = sorted(a.ended for a in answers if a.answered)
    inside = [at for at in ends if begin <= at < end]
    if not inside:
        return 0.0
    until = next((at for at in ends if at >= end), end)
    return len(inside) / (until - inside[0])


async def measure(visit, server):
    client = await visit.client(server)
    extra = await visit.interactive(client)

    async def alone(when):
        few = await trickle(visit, client, extra, f'alone {when}', ALONE_S)
        return [answer.checked('an interactive request').ttft_ms for answer in few]

    async def take_peak(name, seed):
        found = await phase(visit, server, client, extra, name, RAMP_S + PEAK_S, mode='closed', concurrency=CLIENTS, requests=100_000,
                            seed=seed)
        return found, rate_of(found.crowd, RAMP_S, RAMP_S + PEAK_S)

    unloaded = await alone('before')
    # Other prompts in each phase: a seed apart.
    before, first = await take_peak('peak', visit.seed)
    if not first:
        raise MeasureError(f'no answer in {PEAK_S} s')
    rate, seconds = min(FACTOR * first, RATE_MAX), OVERLOAD_S
    overload = await phase(visit, server, client, extra, 'overload', seconds, mode='poisson', rate=rate, streams_max=STREAMS_MAX,
                           requests=int(2 * rate * seconds), seed=visit.seed + 1)
    _, second = await take_peak('after', visit.seed + 2)
    unloaded += await alone('after')
    return values_of(visit, unloaded, [first, second], rate, before, overload)


def waited_ms(answer):
    """TTFT; all the patience there was, of one that was refused or never came."""
    return answer.ttft_ms if answer.answered and answer.times else (PATIENCE_S + MARGIN_S) * 1000


def values_of(visit, unloaded, peaks, rate, at_peak, overload):
    peak = sum(peaks) / len(peaks)
    good = rate_of(overload.crowd, RAMP_S, overload.seconds)
    everybody = overload.crowd + overload.few
    fates = collections.Counter(a.fate() for a in overload.crowd)
    refusals = [(a.head - a.sent) * 1000 for a in everybody if a.refused]
    waits = [waited_ms(a) for a in overload.few]
    visit.draw({**{fate: fates.get(fate, 0) for fate in ('answered', 'refused', 'other', 'hung')}, 'peak_per_s': peak, 'peaks_per_s': peaks,
                'rate_per_s': rate,
                'goodput_per_s': good, 'unloaded_ttft_ms': unloaded, 'high_ttft_ms': waits,
                'high_fates': dict(collections.Counter(a.fate() for a in overload.few)),
                'others': collections.Counter(a.reason() for a in everybody if a.fate() == 'other').most_common(5),
                'refusal_ms_p50': stats.median(refusals) if refusals else None,
                'refusal_ms_p99': stats.percentile(refusals, 0.99) if refusals else None,
                'refusal_ms_max': max(refusals, default=None),
                'peak': {'requests': len(at_peak.crowd), 'fates': dict(collections.Counter(a.fate() for a in at_peak.crowd)),
                         'high_ttft_ms': [waited_ms(a) for a in at_peak.few], 'seen': at_peak.seen, **at_peak.costs},
                'overload': {'requests': len(overload.crowd), 'seconds': overload.seconds, 'seen': overload.seen,
                             'broken_off': [[a.sent - overload.crowd[0].sent, a.ended - a.sent] for a in overload.crowd
                                            if a.fate() == 'other'], **overload.costs}})
    count = collections.Counter(a.fate() for a in everybody)
    values = {'overload_goodput': 100 * good / peak, 'overload_silent': count['hung'], 'overload_other': count['other'],
              'overload_high': stats.percentile(waits, 0.99) / stats.percentile(unloaded, 0.99)}
    if refusals:
        values['overload_reject'] = max(refusals)
    else:
        visit.lacks('overload_reject', 'it refused nothing')
    return values


def visit_server(visit):
    flags = ['--request-timeout', PATIENCE_S] if visit.is_hearth else []
    with visit.server(*flags) as server, environment.ahead() as is_ahead:
        if not is_ahead:
            programs.say('overload: the clients may not go before the server, and wait for its cores')
        return visit.run(measure(visit, server))


SCENE = Scene('overload', sequences=16, context=2048, visit=visit_server, rounds=5)
