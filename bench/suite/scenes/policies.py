"""The same made-up traffic under a real server with four policies and in the simulator: do both put them in the same order?

`hearth sim --export` makes the traffic; tokens are sent as tokens, so that real prompts have exactly the lengths of simulated ones. What
the scheduler of the real server learnt about its steps meanwhile are the simulator's costs.
"""
import asyncio
import itertools
import json
import pathlib
import random

from .. import programs, stats
from ..client import COMPLETIONS
from ..figures import HEARTH
from ..process import MeasureError
from .base import NotAvailable, Scene

SHAPE, REQUESTS, SEED = 'mixed', 30, 1
SEQUENCES, CONTEXT = 8, 2048
VOCABULARY = (1000, 30000)  # ordinary tokens of the model
POLL_S = 0.25  # between looks at what the scheduler has learnt
CLEAR = 1.05  # what is less apart is no difference

# The simulator's name -> flags of the real server, and whether its clients say what class they are.
POLICIES = {
    'hearth': ([], True),
    'no-cache': (['--no-prefix-cache'], True),
    'long-steps': (['--step-target-ms', '10000'], True),
    'plain': ([], False),
}
# What is compared; how small a measured difference in absolute terms says nothing (a step or so).
FIGURES = {
    'interactive TTFT p50, ms': 5, 'interactive TTFT p95, ms': 10, 'gap between tokens p99, ms': 5,
    'prompt tokens computed': 16, 'output tokens/s': 0,
}
WEIGHTS = ('base_ms', 'per_decode_ms', 'per_prompt_token_ms', 'per_1000_attended_ms')


def tokens_of(segments):
    """Equal seeds are equal tokens."""
    return [token for seed, count in segments for token in random.Random(f'segment {seed}').choices(range(*VOCABULARY), k=count)]


async def play(client, jobs, with_class):
    """[answer] of every job: sent when the one before it has ended and its time has passed."""
    ended = [asyncio.Event() for _ in jobs]
    answers = [None] * len(jobs)

    async def one(at, job):
        if job['after'] is not None:
            await ended[job['after']].wait()
        await asyncio.sleep(job['at_ms'] / 1000)
        extra = {'priority': job['priority']} if with_class else {}
        body = client.completion(tokens_of(job['prompt']), job['output_tokens'], **extra)
        answers[at] = (await client.stream(body, COMPLETIONS)).checked(f'request {at} of the made-up traffic')
        ended[at].set()

    await asyncio.gather(*(one(at, job) for at, job in enumerate(jobs)))
    return answers


async def learn(client, found):
    """Keeps what the scheduler has learnt, time and again, until cancelled."""
    while True:
        await asyncio.sleep(POLL_S)
        _, report = await client.json('GET', '/api/v1/engine')
        engine = report['models'][0].get('engine') or {}
        if all(name in engine.get('cost', {}) for name in WEIGHTS):
            found.append([engine['cost'][name] for name in WEIGHTS])


def measured(jobs, answers):
    interactive = [a.ttft_ms for a, job in zip(answers, jobs) if job['priority'] == 'interactive']
    gaps = [(after - before) * 1000 for a in answers for before, after in zip(a.times, a.times[1:])]
    seconds = max(a.ended for a in answers) - min(a.sent for a in answers)
    return dict(zip(FIGURES, (stats.median(interactive), stats.percentile(interactive, 0.95), stats.percentile(gaps, 0.99),
                              sum(a.prompt_tokens - a.cached_tokens for a in answers),
                              sum(a.usage.get('completion_tokens', 0) for a in answers) / seconds)))


async def one_policy(visit, server, jobs, with_class):
    client = await visit.client_only(server)
    # So that the scheduler knows what prompts cost before the first request.
    warm_up = client.completion(tokens_of([[0, 400]]), 8)
    (await client.stream(warm_up, COMPLETIONS)).checked('the warm-up')
    costs = []
    learning = asyncio.create_task(learn(client, costs))
    try:
        answers = await play(client, jobs, with_class)
    finally:
        learning.cancel()
        await asyncio.gather(learning, return_exceptions=True)
    return measured(jobs, answers), costs


def traffic(suite):
    """The requests, made once a run."""
    path = suite.folder / 'traffic.json'
    if not path.is_file():
        programs.process.run([suite.loadgen, 'sim', '--shape', SHAPE, '--requests', REQUESTS, '--seed', SEED, '--export', path], 60)
    jobs = json.loads(path.read_text())['jobs']
    if any(job['continues'] for job in jobs):
        raise MeasureError(f'the shape {SHAPE} has requests that go on from an answer, which cannot be sent as tokens')
    return jobs


def visit_server(visit):
    if not programs.knows_flag(visit.suite.loadgen, '--export', 'sim'):
        raise NotAvailable('this `hearth sim` has no --export')
    jobs = traffic(visit.suite)
    order = list(POLICIES)
    turn = visit.seed // 1000 % len(order)
    drawn = {'costs': []}
    for name in order[turn:] + order[:turn]:
        flags, with_class = POLICIES[name]
        # Guesses come true by what a text says, which the simulator does not know.
        with visit.server('--no-speculation', *flags, label=name) as server:
            drawn[name], costs = visit.run(one_policy(visit, server, jobs, with_class))
        drawn['costs'] += costs
    visit.draw(drawn)
    return {}


def simulated(suite, costs):
    """{policy: {figure: value}} with these costs."""
    path = suite.folder / 'costs.json'
    path.write_text(json.dumps(dict(zip(WEIGHTS, costs))) + '\n')
    arguments = ['--shape', SHAPE, '--requests', REQUESTS, '--seed', SEED, '--seqs', SEQUENCES, '--ctx', CONTEXT, '--kv-cells',
                 SEQUENCES * CONTEXT, '--cost-from', path, '--json']
    for name in POLICIES:
        arguments += ['--policy', name]
    report = programs.sim(suite.loadgen, arguments, suite.raw_path('sim'))
    found = {}
    for result in report['policies']:
        groups = {group['name']: group for group in result['groups']}
        # Plain servers know no classes; their clients have them all the same.
        ttft = groups['interactive']['ttft_ms']
        found[result['policy']] = dict(zip(FIGURES, (ttft['p50'], ttft['p95'], groups['all']['gap_ms']['p99'],
                                                     result['computed_tokens'], result['output_tokens_per_s'])))
    return found


def clearly_apart(name, a, b):
    """The rounds of two policies do not overlap, and are apart by more than nothing."""
    low, high = sorted((a, b), key=stats.median)
    return max(low) < min(high) and stats.median(high) > max(CLEAR * stats.median(low), stats.median(low) + FIGURES[name])


def compare(rounds, simulation):
    """[(policy, policy, figure, the simulator agrees)] of every clear difference. `rounds`: [{policy: {figure: value}}]."""
    found = []
    for a, b in itertools.combinations(POLICIES, 2):
        for name in FIGURES:
            ours, theirs = ([r[policy][name] for r in rounds] for policy in (a, b))
            if clearly_apart(name, ours, theirs):
                higher = stats.median(ours) > stats.median(theirs)
                found.append((a, b, name, (simulation[a][name] > simulation[b][name]) == higher
                              and simulation[a][name] != simulation[b][name]))
    return found


def finish(suite):
    rounds = suite.results['plots'].get('policies', {}).get(HEARTH, [])
    costs = [cost for drawn in rounds for cost in drawn['costs']]
    if not costs:
        return
    fitted = [stats.median(column) for column in zip(*costs)]
    simulation = simulated(suite, fitted)
    found = compare(rounds, simulation)
    if not found:
        raise MeasureError('no two policies differ by more than the spread of the rounds')
    pairs = {}
    for a, b, _, agrees in found:
        pairs.setdefault((a, b), []).append(agrees)
    suite.add('sim_order', HEARTH, sum(all(agreements) for agreements in pairs.values()))
    suite.add('sim_agree', HEARTH, 100 * sum(agrees for *_, agrees in found) / len(found))
    suite.results['info']['policies'] = {
        'costs': dict(zip(WEIGHTS, fitted)), 'simulated': simulation,
        'measured': {policy: {name: [r[policy][name] for r in rounds] for name in FIGURES} for policy in POLICIES},
        'differences': [list(row) for row in found]}


SCENE = Scene('policies', sequences=SEQUENCES, context=CONTEXT, visit=visit_server, rounds=2, subjects=(HEARTH,), finish=finish)
