"""The Mooncake conversation trace, thinned and scaled: how many prompt tokens are computed, and how often a cache helps."""
import asyncio
import time

from .. import stats, trace
from ..client import COMPLETIONS, Answer
from ..figures import HEARTH, SERVER, UNBOUNDED, UNCACHED
from ..process import MeasureError
from .base import NotAvailable, Scene

DIVISOR, PROMPT_MAX, OUTPUT_MAX = 32, 1900, 32  # the trace's prompts have 12,000 tokens on average
ONE_OF, ONE_OF_LONG = 60, 20  # conversations kept
AT_ONCE = 8  # requests; the trace's order is kept, its pauses are not
HOST_CACHE = '2GiB'  # a quarter of llama-server's 8 GiB


def rows_of(visit):
    path = visit.suite.options.data / 'traces' / 'mooncake_conversation.jsonl'
    if not path.is_file():
        raise NotAvailable(f'{path.name} is not there; see --data')
    rows = trace.thin(trace.read(path), ONE_OF_LONG if visit.long else ONE_OF)
    if visit.suite.options.quick or visit.tuning:
        rows = rows[:len(rows) // 4]
    return trace.scale(rows, DIVISOR, PROMPT_MAX, OUTPUT_MAX)


async def replay(visit, server, rows):
    """Answers in the order of the trace."""
    client = await visit.client(server)
    words_per_token = 1 / visit.suite.results['info']['tokens_per_word']
    found, waiting = [Answer() for _ in rows], list(enumerate(rows))[::-1]

    async def worker():
        while waiting:
            at, row = waiting.pop()
            body = client.completion(trace.text(row, DIVISOR, words_per_token), row.output_tokens)
            (await client.stream(body, COMPLETIONS, found[at])).checked(f'request {at} of the trace')

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return found, time.perf_counter() - start


def visit_subject(visit):
    rows = rows_of(visit)
    if visit.subject == UNBOUNDED:
        return unbounded(visit, rows)
    flags = {HEARTH: ['--cache-memory', HOST_CACHE] if visit.has_flag('--cache-memory') else [], SERVER: [], UNCACHED: ['--cache-ram', '0']}
    with visit.server(*flags[visit.subject]) as server:
        found, seconds = visit.run(replay(visit, server, rows))
    prompt, cached = [a.prompt_tokens for a in found], [a.cached_tokens for a in found]
    if not sum(prompt):
        raise MeasureError('the server gives no usage')
    visit.draw({'prompt': prompt, 'cached': cached, 'seconds': seconds, 'ttft_ms_p50': stats.median([a.ttft_ms for a in found])})
    return {'trace': sum(prompt) - sum(cached), 'trace_time': seconds}


def unbounded(visit, rows):
    """Counted, not run: the tokens of the plan, and of them those that a cache which forgets nothing computes."""
    computed = trace.computed_by_unbounded(rows, DIVISOR)
    planned = sum(row.prompt_tokens for row in rows)
    drawn = next(iter(visit.suite.results['plots'].get('replay', {}).get(HEARTH, [])), None)
    # The server's tokens are not exactly those planned: one word is not quite one token.
    factor = sum(drawn['prompt']) / planned if drawn else 1.0
    visit.draw({'prompt': [row.prompt_tokens for row in rows], 'cached': [row.prompt_tokens - c for row, c in zip(rows, computed)],
                'share_computed': sum(computed) / planned, 'requests': len(rows), 'factor': factor})
    return {'trace': sum(computed) * factor}


SCENE = Scene('replay', sequences=AT_ONCE, context=2048, visit=visit_subject, rounds=1, subjects=(HEARTH, SERVER, UNCACHED, UNBOUNDED),
              peer_variants={'default': [], 'kv unified': ['-kvu'], 'kv unified, cache reuse': ['-kvu', '--cache-reuse', '64']})
