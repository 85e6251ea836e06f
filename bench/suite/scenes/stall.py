"""Three streams run; then a long prompt arrives. How long do they stand still?"""
import asyncio
import time

from .. import stats
from ..client import stop, until
from ..process import MeasureError
from .base import Scene

STREAMS, STREAM_PROMPT, STREAM_OUTPUT = 3, 30, 4000
LONG = {'gap': 2000, 'gap_8000': 7900}  # tokens of the prompt, by figure; the model's context is 8,192
BASE_TOKENS = 30  # of each stream before the prompt arrives
REPLY = 4
TOGETHER_S = 0.001
HEARTH_TIMEOUT_S = 600


def arrivals(times):
    """When something arrived: tokens that were guessed ahead come together, and the gaps within them are none."""
    kept = times[:1]
    for at in times[1:]:
        if at - kept[-1] >= TOGETHER_S:
            kept.append(at)
    return kept


def gaps_around(answers, arrived, through):
    """[(end of the gap, its length in ms)] of every gap that reaches into [arrived, through], in the order of their ends."""
    found = []
    for answer in answers:
        times = arrivals(answer.times)
        found += [(after, (after - before) * 1000) for before, after in zip(times, times[1:]) if after > arrived and before < through]
    return sorted(found)


async def one_prompt(visit, client, tokens):
    """(gaps while the prompt is read, gaps before it, ms until its first token, its tokens)."""
    started = [client.start(client.body(visit.text(STREAM_PROMPT, f'stream {i} beside {tokens}'), STREAM_OUTPUT)) for i in range(STREAMS)]
    tasks, streams = [s[0] for s in started], [s[1] for s in started]
    try:
        await until(lambda: all(len(s.times) >= BASE_TOKENS or s.ended for s in streams), 'tokens of the streams')
        arrived = time.perf_counter()
        answer = (await client.stream(client.body(visit.text(tokens, f'long prompt {tokens}'), REPLY))).checked('the long prompt')
        through = answer.times[0]
        await until(lambda: all(s.ended or s.times[-1] > through for s in streams), 'the streams going on')
        await asyncio.sleep(0.2)
        if any(s.ended for s in streams):
            raise MeasureError(f'a running stream ended before the long prompt was answered: {streams[0].error or streams[0].status}')
        first = min(s.times[0] for s in streams)
        return gaps_around(streams, arrived, through), gaps_around(streams, first, arrived), arrived, answer
    finally:
        await stop(tasks)


async def measure(visit, server):
    client = await visit.client(server)
    values, drawn = {}, {}
    for figure, tokens in LONG.items():
        if figure not in visit.suite.wanted and not {'stall_itl'} & set(visit.suite.wanted):
            continue
        during, before, arrived, answer = await one_prompt(visit, client, tokens)
        lengths = [gap for _, gap in during]
        values[figure] = max(lengths)
        drawn[figure] = {'gaps': [[end - arrived, gap] for end, gap in before + during], 'ttft_ms': answer.ttft_ms,
                         'prompt_tokens': answer.prompt_tokens, 'base_ms': stats.median([gap for _, gap in before])}
        if figure == 'gap_8000':
            values['stall_itl'] = stats.percentile(lengths, 0.99) / stats.median(lengths)
    visit.draw(drawn)
    return values


def visit_server(visit):
    flags = ['--request-timeout', HEARTH_TIMEOUT_S] if visit.is_hearth else []  # the streams run for as long as the prompt takes
    with visit.server(*flags) as server:
        return visit.run(measure(visit, server))


SCENE = Scene('stall', sequences=STREAMS + 1, context=8192, visit=visit_server, rounds=2,
              peer_variants={'default': [], 'batch 256': ['-b', '256', '-ub', '256']})
