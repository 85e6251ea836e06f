"""Users who share a system prompt: what the first one computed, nobody computes again."""
import asyncio

from .. import prompts, stats
from .base import Scene

USERS = (1, 2, 4, 8)
TARGET_USERS = 4
SYSTEM_TOKENS = 1900  # with its frame about 2,000
OUTPUT = 8


async def ask(visit, client, system, user):
    body = client.body(prompts.conversation(system, visit.text(20, f'question of {user}')), OUTPUT)
    return (await client.stream(body)).checked('a user of a shared system prompt').ttft_ms


async def together(visit, client, system, users):
    return await asyncio.gather(*(ask(visit, client, system, f'{len(system)} {user}') for user in range(users)))


async def measure(visit, server):
    client = await visit.client(server)
    cold, warm, by_users = [], [], {}
    for users in USERS:
        system = visit.text(SYSTEM_TOKENS, f'system prompt for {users}')
        cold.append(await ask(visit, client, system, 'the first'))
        warm.append(await ask(visit, client, system, 'the first'))
        by_users[users] = await together(visit, client, system, users)
    # Nobody has computed this one: they all come at once.
    fresh = await together(visit, client, visit.text(SYSTEM_TOKENS, 'system prompt for nobody before'), TARGET_USERS)
    visit.draw({'cold': cold, 'warm': warm, 'users': by_users, 'fresh': fresh})
    return {'shared': stats.median(by_users[TARGET_USERS]), 'shared_cold': stats.median(cold),
            'shared_warm': 100 * stats.median(warm) / stats.median(cold), 'shared_fresh': stats.median(fresh)}


def visit_server(visit):
    with visit.server() as server:
        return visit.run(measure(visit, server))


SCENE = Scene('shared', sequences=10, context=3072, visit=visit_server,
              peer_variants={'default': [], 'kv unified, cache reuse': ['-kvu', '--cache-reuse', '256']})
