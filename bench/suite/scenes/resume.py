"""A long chat goes on after the server was restarted: orderly, and after kill -9."""
import pathlib
import tempfile
import time

from ..client import CHAT
from ..process import MeasureError
from ..prompts import conversation
from .base import NotAvailable, Scene

CHAT_TOKENS, ANSWER, SETTLE_S = 7800, 32, 3  # the model's context is 8,192; SETTLE_S: what is written behind has time to be written
SLOT_FILE = 'chat.bin'


def first_turn(visit):
    return conversation('You are a careful reader.', visit.text(CHAT_TOKENS, 'the long text') + '\n\nWhat is this about?')


def next_turn(visit, answer):
    return [*first_turn(visit), {'role': 'assistant', 'content': answer}, {'role': 'user', 'content': 'Go on.'}]


async def say(visit, server, messages, **extra):
    """An answer to the chat; before it a few tokens of something else, so that the server has computed already."""
    client = await visit.client(server)
    if 'id_slot' not in extra:
        (await client.stream(client.body('Hello.', 4))).checked('the greeting')
    return (await client.stream(client.body(messages, ANSWER, **extra), CHAT)).checked('the long chat')


def of_hearth(visit):
    """{way of stopping: (resumed, recomputed)}: answers to the same second turn."""
    for flag in ('--cache-dir', '--cache-disk'):
        if not visit.has_flag(flag):
            raise NotAvailable(f'this hearth serve has no {flag}')
    found = {}
    with tempfile.TemporaryDirectory(prefix='hearth-bench-') as folder:
        def server(name):
            path = pathlib.Path(folder) / name
            path.mkdir(exist_ok=True)
            return visit.server('--cache-dir', path, '--cache-disk', '4GiB')

        cold = None
        for way in ('term', 'kill'):
            with server(way) as running:
                answer = visit.run(say(visit, running, first_turn(visit))).text
                if way == 'kill':
                    time.sleep(SETTLE_S)
                    running.kill()
            if cold is None:
                with server('empty') as running:
                    cold = visit.run(say(visit, running, next_turn(visit, answer)))
            with server(way) as running:
                found[way] = visit.run(say(visit, running, next_turn(visit, answer))), cold
    return found


async def slot(visit, server, action):
    client = await visit.client(server)
    status, body = await client.json('POST', f'/slots/0?action={action}', {'filename': SLOT_FILE})
    if status != 200:
        raise MeasureError(f'slot {action}: status {status}, {str(body)[:200]}')


def of_peer(visit):
    """llama-server on request of its client: its slot is saved before and restored after; restoring counts."""
    with tempfile.TemporaryDirectory(prefix='hearth-bench-') as folder:
        flags = ['--slot-save-path', folder + '/']
        with visit.server(*flags) as running:
            answer = visit.run(say(visit, running, first_turn(visit), id_slot=0)).text
            visit.run(slot(visit, running, 'save'))
        with visit.server(*flags) as running:
            cold = visit.run(say(visit, running, next_turn(visit, answer), id_slot=0))
        with visit.server(*flags) as running:
            start = time.perf_counter()
            visit.run(slot(visit, running, 'restore'))
            restore_ms = (time.perf_counter() - start) * 1000
            warm = visit.run(say(visit, running, next_turn(visit, answer), id_slot=0))
    return warm, cold, restore_ms


def visit_servers(visit):
    if visit.is_hearth:
        found = of_hearth(visit)
        visit.draw({way: {'resumed_ms': warm.ttft_ms, 'recomputed_ms': cold.ttft_ms, 'cached_tokens': warm.cached_tokens,
                          'prompt_tokens': warm.prompt_tokens, 'texts': [warm.text, cold.text]} for way, (warm, cold) in found.items()})
        equal = sum(warm.text == cold.text for warm, cold in found.values())
        faster = {way: cold.ttft_ms / warm.ttft_ms for way, (warm, cold) in found.items()}
        return {'resume': faster['term'], 'resume_kill': faster['kill'], 'resume_equal': 100 * equal / len(found)}
    warm, cold, restore_ms = of_peer(visit)
    visit.draw({'restored_ms': restore_ms + warm.ttft_ms, 'recomputed_ms': cold.ttft_ms, 'texts': [warm.text, cold.text]})
    visit.lacks('resume_kill', 'its client must ask for every save')
    return {'resume': cold.ttft_ms / (restore_ms + warm.ttft_ms), 'resume_equal': 100.0 * (warm.text == cold.text)}


SCENE = Scene('resume', sequences=4, context=8192, visit=visit_servers, rounds=1)
