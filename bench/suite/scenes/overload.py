"""Ten times more requests than the server can answer, and a trickle of interactive ones among them."""
import asyncio
import collections
import random
import time

from .. import stats
from ..client import stop
from ..process import MeasureError
from .base import Scene

PROMPT, OUTPUT, CLIENTS = 50, 32, 16
QUESTION, REPLY = 20, 4
PEAK_S, RAMP_S = 8, 4  # of the search for the peak; what does not count at the start of either phase
OVERLOAD_S, OVERLOAD_LONG_S = 30, 60
FACTOR, RATE_MAX = 10, 300  # arrivals per second; a client can send no more and stay small
PATIENCE_S = 20  # what Hearth is told a request may take
MARGIN_S = 5  # beyond it a request without an end was forgotten
UNLOADED, TRICKLE_S = 20, 0.5


async def peak_rate(visit, client):
    """Answers per second of 16 clients in closed loops."""
    ends = []

    async def loop(number):
        count = 0
        while True:
            body = client.body(visit.text(PROMPT, f'peak {number} {count}'), OUTPUT)
            ends.append((await client.stream(body)).checked('a request at the peak').ended)
            count += 1

    start = time.perf_counter()
    tasks = [asyncio.create_task(loop(number)) for number in range(CLIENTS)]
    await asyncio.sleep(RAMP_S + PEAK_S)
    failed = next((task.exception() for task in tasks if task.done()), None)
    await stop(tasks)
    if failed:
        raise failed
    counted = [end for end in ends if end >= start + RAMP_S]
    if not counted:
        raise MeasureError(f'no answer in {PEAK_S} s')
    return len(counted) / PEAK_S


async def arrivals(visit, client, rate, seconds, sent):
    """Sends at random times, `rate` a second on average, whatever the server does."""
    chance, at, start = random.Random(f'{visit.seed}'), 0.0, time.perf_counter()
    while (at := at + chance.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        body = client.body(visit.text(PROMPT, f'overload {len(sent)}'), OUTPUT)
        sent.append(client.start(body, timeout_s=PATIENCE_S + MARGIN_S))


async def trickle(visit, client, extra, seconds, sent):
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        body = client.body(visit.text(QUESTION, f'trickle {len(sent)}'), REPLY, **extra)
        sent.append(client.start(body, timeout_s=PATIENCE_S + MARGIN_S))
        await asyncio.sleep(TRICKLE_S)


def waited_ms(answer):
    """TTFT; all the patience there was, of one that was refused or never came."""
    return answer.ttft_ms if answer.answered and answer.times else (PATIENCE_S + MARGIN_S) * 1000


async def measure(visit, server):
    client = await visit.client(server)
    extra = await visit.interactive(client)
    unloaded = []
    for i in range(UNLOADED):
        body = client.body(visit.text(QUESTION, f'unloaded {i}'), REPLY, **extra)
        unloaded.append((await client.stream(body)).checked('an interactive request').ttft_ms)
    peak = await peak_rate(visit, client)
    rate, seconds = min(FACTOR * peak, RATE_MAX), OVERLOAD_LONG_S if visit.long else OVERLOAD_S
    crowd, few, start = [], [], time.perf_counter()
    await asyncio.gather(arrivals(visit, client, rate, seconds, crowd), trickle(visit, client, extra, seconds, few))
    await asyncio.gather(*(task for task, _ in crowd + few))  # each ends by its own time limit
    return values_of(visit, peak, rate, unloaded, (start, start + seconds), [a for _, a in crowd], [a for _, a in few])


def values_of(visit, peak, rate, unloaded, window, crowd, few):
    start, end = window
    good = sum(1 for a in crowd if a.answered and start + RAMP_S <= a.ended <= end) / (end - start - RAMP_S)
    fates = collections.Counter(a.fate() for a in crowd)
    refusals = [(a.head - a.sent) * 1000 for a in crowd + few if a.refused]
    high = stats.percentile([waited_ms(a) for a in few], 0.99)
    others = collections.Counter(a.reason() for a in crowd + few if a.fate() == 'other')
    visit.draw({**{fate: fates.get(fate, 0) for fate in ('answered', 'refused', 'other', 'hung')}, 'peak_per_s': peak, 'rate_per_s': rate,
                'goodput_per_s': good, 'unloaded_ttft_ms': unloaded, 'high_ttft_ms': [waited_ms(a) for a in few],
                'high_fates': dict(collections.Counter(a.fate() for a in few)), 'others': others.most_common(5),
                'refusal_ms_p50': stats.median(refusals) if refusals else None,
                'refusal_ms_p99': stats.percentile(refusals, 0.99) if refusals else None})
    everybody = collections.Counter(a.fate() for a in crowd + few)
    values = {'overload_goodput': 100 * good / peak, 'overload_silent': everybody['hung'], 'overload_other': everybody['other'],
              'overload_high': high / stats.percentile(unloaded, 0.99)}
    if refusals:
        values['overload_reject'] = max(refusals)
    else:
        visit.lacks('overload_reject', 'it refused nothing')
    return values


def visit_server(visit):
    flags = ['--request-timeout', PATIENCE_S] if visit.is_hearth else []
    with visit.server(*flags) as server:
        return visit.run(measure(visit, server))


SCENE = Scene('overload', sequences=16, context=2048, visit=visit_server, rounds=1)
