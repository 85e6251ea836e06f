"""One person's short questions beside eight programs that keep the server busy."""
import asyncio
import time

from .. import stats
from ..process import MeasureError
from .base import Scene

CLIENTS, PROMPT, OUTPUT = 8, 600, 100
QUESTION, REPLY = 20, 8
ALONE = 20  # questions without anybody beside
BESIDE_MAX, BESIDE_MIN, BESIDE_S = 40, 5, 30  # questions, and how long they are asked
PAUSE_S = 0.2  # between an answer and the next question


async def busy_client(visit, client, number, answers):
    """A closed loop: the next request when the last one has its answer."""
    count = 0
    while True:
        body = client.body(visit.text(PROMPT, f'client {number} prompt {count}'), OUTPUT)
        answers.append((await client.stream(body)).checked('a client beside'))
        count += 1


async def questions(visit, client, extra, name, count_max, seconds):
    ttfts, end = [], time.perf_counter() + seconds
    while len(ttfts) < count_max and time.perf_counter() < end:
        body = client.body(visit.text(QUESTION, f'{name} {len(ttfts)}'), REPLY, **extra)
        ttfts.append((await client.stream(body)).checked('an interactive question').ttft_ms)
        await asyncio.sleep(PAUSE_S)
    return ttfts


async def measure(visit, server):
    client = await visit.client(server)
    extra = await visit.interactive(client)
    alone = await questions(visit, client, extra, 'alone', ALONE, BESIDE_S)
    answers, start = [], time.perf_counter()
    tasks = [asyncio.create_task(busy_client(visit, client, number, answers)) for number in range(CLIENTS)]
    try:
        await asyncio.sleep(1)  # all eight are at work
        crowd = await questions(visit, client, extra, 'beside', BESIDE_MAX, BESIDE_S)
        elapsed = time.perf_counter() - start
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if len(crowd) < BESIDE_MIN:
        raise MeasureError(f'only {len(crowd)} questions were answered in {BESIDE_S} s; {BESIDE_MIN} are needed')
    p95 = stats.percentile(crowd, 0.95)
    visit.draw({'alone': alone, 'beside': crowd, 'clients_tokens_per_s': len(answers) * OUTPUT / elapsed})
    return {'beside': p95, 'beside_ratio': p95 / stats.percentile(alone, 0.95)}


def visit_server(visit):
    with visit.server() as server:
        return visit.run(measure(visit, server))


SCENE = Scene('beside', sequences=16, context=2048, visit=visit_server, rounds=2,
              peer_variants={'default': [], 'batch 256': ['-b', '256', '-ub', '256']})
