"""Five hundred requests at once: each must be answered or told at once when to come again."""
import asyncio
import collections
import time

from ..client import Answer, stop
from .base import Scene

REQUESTS, PROMPT, OUTPUT = 500, 50, 64
WINDOW_S = 90
HEARTH_TIMEOUT_S = 75  # what Hearth is told a request may take: less than the clients wait
AFTER_TIMEOUT_S = 30


def count_fates(answers):
    fates = collections.Counter(answer.fate() for answer in answers)
    return {fate: fates.get(fate, 0) for fate in ('answered', 'refused', 'other', 'hung')}


async def measure(visit, server):
    client = await visit.client(server, timeout_s=WINDOW_S)
    bodies = [client.body(visit.text(PROMPT, f'request {i}'), OUTPUT) for i in range(REQUESTS)]
    answers, start = [Answer() for _ in bodies], time.perf_counter()
    tasks = [asyncio.create_task(client.stream(body, answer=answer)) for body, answer in zip(bodies, answers)]
    await asyncio.wait(tasks, timeout=WINDOW_S)
    seconds = time.perf_counter() - start
    await stop(tasks)
    after = await client.stream(client.body(visit.text(PROMPT, 'the one after'), OUTPUT), timeout_s=AFTER_TIMEOUT_S)
    fates = count_fates(answers)
    refusals = [(a.head - a.sent) * 1000 for a in answers if a.refused]
    others = collections.Counter(a.reason() for a in answers if a.fate() == 'other')
    visit.draw({**fates, 'seconds': seconds, 'refusal_ms_max': max(refusals, default=None), 'others': others.most_common(5),
                'ttft_ms': sorted(a.ttft_ms for a in answers if a.answered and a.times),
                'retry_after_s': sorted(int(a.headers['retry-after']) for a in answers if a.refused)})
    values = {f'burst_{fate}': count for fate, count in fates.items()}
    values['burst_after'] = after.ttft_ms if after.answered and after.times else AFTER_TIMEOUT_S * 1000
    return values


def visit_server(visit):
    flags = ['--request-timeout', HEARTH_TIMEOUT_S] if visit.is_hearth else []
    with visit.server(*flags) as server:
        return visit.run(measure(visit, server))


SCENE = Scene('burst', sequences=16, context=2048, visit=visit_server, rounds=1)
