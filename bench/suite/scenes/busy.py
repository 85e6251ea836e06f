"""Decoding while somebody else's programs want every core."""
import contextlib
import subprocess
import sys

from .. import environment, programs, stats
from ..figures import BENCH, HEARTH, SERVER
from .base import Scene

PROMPT, OUTPUT, ANSWERS = 16, 128, 3
BENCH_OUTPUT = 16  # more take it minutes beside other work
SPIN = 'while True:\n    pass'


@contextlib.contextmanager
def foreign_work(count):
    """`count` processes that compute without end; ended on leaving, whatever happens."""
    spinning = []
    try:
        for _ in range(count):
            spinning.append(subprocess.Popen([sys.executable, '-c', SPIN], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        yield spinning
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()


async def rate(visit, client, name):
    answer = await client.stream(client.body(visit.text(PROMPT, name), OUTPUT))
    return answer.checked('an answer beside foreign work').tokens_per_s


async def of_server(visit, server):
    client = await visit.client(server)
    await rate(visit, client, 'warm-up')
    quiet, busy = [], []
    for i in range(ANSWERS):
        quiet.append(await rate(visit, client, f'quiet {i}'))
        with foreign_work(environment.cores()):
            busy.append(await rate(visit, client, f'busy {i}'))
    return stats.median(quiet), stats.median(busy)


def of_bench(visit):
    def once(name):
        rates, _ = programs.llama_bench(visit.suite.peers, visit.load.model, visit.suite.options.threads, [0], BENCH_OUTPUT, [],
                                        visit.suite.raw_path(f'busy-{BENCH}-{name}'))
        return rates[f'tg{BENCH_OUTPUT}']
    quiet = once('quiet')
    with foreign_work(environment.cores()):
        return quiet, once('busy')


def visit_subject(visit):
    if visit.subject == BENCH:
        quiet, busy = of_bench(visit)
    else:
        with visit.server() as server:
            quiet, busy = visit.run(of_server(visit, server))
    visit.draw({'quiet_tokens_per_s': quiet, 'busy_tokens_per_s': busy})
    return {'busy': busy / quiet}


SCENE = Scene('busy', sequences=4, context=2048, visit=visit_subject, rounds=3, subjects=(HEARTH, SERVER, BENCH),
              peer_variants={'default': [], 'poll 0': ['--poll', '0']})
