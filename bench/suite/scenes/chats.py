"""Memory as chats begin: a context setting of 32k tokens, of which little is used."""
import asyncio

from ..client import stop, until
from ..process import memory
from .base import Scene

PROMPT, OUTPUT, RUNNING_TOKENS = 200, 1500, 20
CHATS = {'rss_chats1': 1, 'rss_chats16': 16}


def rss_mib(server):
    return sum(row['rss_kib'] for row in memory(server.pid)) / 1024


async def measure(visit, server):
    client = await visit.client(server)
    at_rest = rss_mib(server)
    values, tasks, running = {}, [], []
    try:
        for figure, chats in CHATS.items():
            while len(running) < chats:
                task, answer = client.start(client.body(visit.text(PROMPT, f'chat {len(running)}'), OUTPUT))
                tasks.append(task)
                running.append(answer)
            await until(lambda: all(len(a.times) >= RUNNING_TOKENS or a.ended for a in running), f'{chats} running chats')
            for answer in running:
                if answer.ended:
                    answer.checked('a chat that should still run')
            values[figure] = rss_mib(server)
    finally:
        await stop(tasks)
    await asyncio.sleep(0.5)
    visit.draw({'at_rest': at_rest, **values, 'afterwards': rss_mib(server)})
    return values


def visit_server(visit):
    with visit.server() as server:
        return visit.run(measure(visit, server))


SCENE = Scene('chats', sequences=16, context=2048, visit=visit_server, rounds=2,
              peer_variants={'default': [], 'kv unified': ['-kvu']})
