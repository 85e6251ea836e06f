"""Tokens guessed ahead: answers that copy much of their prompt, and answers that do not, with guessing and without."""
import contextlib

from .. import prompts, stats
from ..figures import HEARTH, SERVER
from .base import NotAvailable, Scene

SETS = {'spec_copy': prompts.copy_set, 'spec_chat': prompts.chat_set}
# Of each prompt with and without, one after the other; answers that copy are far from the floor.
PAIRS = {'spec_copy': 1, 'spec_chat': 5}
TUNING_EVERY = 3  # of the prompts, when flags are tried
# llama-server guesses only when told to; the kinds that need no second model, as they come and with a shorter look-up.
PEER_GUESSING = {
    'ngram-simple': ['--spec-type', 'ngram-simple'],
    'ngram-map-k': ['--spec-type', 'ngram-map-k'],
    'ngram-map-k4v': ['--spec-type', 'ngram-map-k4v'],
    'ngram-mod (--spec-default)': ['--spec-default'],
    'ngram-cache': ['--spec-type', 'ngram-cache'],
    'ngram-map-k 3, 8': ['--spec-type', 'ngram-map-k', '--spec-ngram-map-k-size-n', '3', '--spec-ngram-map-k-size-m', '8'],
    'ngram-simple 3, 8': ['--spec-type', 'ngram-simple', '--spec-ngram-simple-size-n', '3', '--spec-ngram-simple-size-m', '8'],
}


def prompt_sets(data):
    if not data.is_dir():
        raise NotAvailable(f'the prompts are cut from {data.name}, which is not there; see --data')
    return {name: make(data) for name, make in SETS.items()}


async def answered(client, prompt, tokens, what, extra):
    answer = await client.stream(client.body(prompt, tokens, ignore_eos=False, **extra))
    answer.checked(what)
    return answer.usage.get('completion_tokens', 0), answer.times[-1] - answer.times[0], answer.text


async def answers(visit, servers, sets):
    """{way: {set: [[(tokens, seconds, text), one per pair], one per prompt]}}; a prompt goes to the servers of all ways in turn, so
    what slows the machine for a while slows all. No answer is guessed from an earlier one to the same prompt: only Hearth, which can
    be told to keep them apart, is asked again."""
    clients = {way: await visit.client(server) for way, server in servers.items()}
    for client in clients.values():
        (await client.stream(client.body('Hello.', 16))).checked('the greeting')
    found = {way: {name: [] for name in sets} for way in servers}
    for name, prompts_of_set in sets.items():
        for number, (prompt, tokens) in enumerate(prompts_of_set):
            for way in servers:
                found[way][name].append([])
            for pair in range(PAIRS[name] if visit.is_hearth else 1):
                extra = {'cache_salt': f'{number} {pair}'} if visit.is_hearth else {}
                for way in sorted(servers, reverse=(number + pair) % 2 > 0):
                    row = await answered(clients[way], prompt, tokens, f'a prompt of {name}', extra)
                    found[way][name][-1].append(row)
    return found


def rate(rows):
    """Tokens per second of a set: all tokens after each first one, over the time they took."""
    return sum(max(0, tokens - 1) for tokens, _, _ in rows) / max(1e-9, sum(seconds for _, seconds, _ in rows))


def visit_servers(visit):
    if visit.is_hearth and not visit.has_flag('--no-speculation'):
        raise NotAvailable('this hearth serve has no --no-speculation')
    sets = prompt_sets(visit.suite.options.data)
    if visit.tuning:
        sets = {name: prompts_of_set[::TUNING_EVERY] for name, prompts_of_set in sets.items()}
    ways = {'on': [], 'off': ['--no-speculation']} if visit.is_hearth else {'on': visit.flags, 'off': []}
    with contextlib.ExitStack() as stack:
        servers = {}
        for way, flags in ways.items():
            visit.flags = flags
            servers[way] = stack.enter_context(visit.server(label=way))
        visit.flags = ways['on']
        found = visit.run(answers(visit, servers, sets))
    rows = {way: {name: [row for prompt in by_set[name] for row in prompt] for name in sets} for way, by_set in found.items()}
    pairs = [(a[2], b[2]) for name in sets for a, b in zip(rows['on'][name], rows['off'][name])]
    visit.draw({way: {name: [[[tokens, seconds] for tokens, seconds, _ in prompt] for prompt in by_set[name]] for name in sets}
                for way, by_set in found.items()})
    values = {name: rate(rows['on'][name]) / rate(rows['off'][name]) for name in sets}
    return {**values, 'spec_rate': rate(rows['on']['spec_copy']), 'spec_equal': 100 * sum(a == b for a, b in pairs) / len(pairs)}


def slowest(rounds):
    """The worst prompt's speed with guessing, as a share of that without; per prompt the median over the pairs of all rounds."""
    shares = []
    for name in SETS:
        for i in range(len(rounds[0]['on'][name])):
            pairs = [pair for r in rounds for pair in zip(r['on'][name][i], r['off'][name][i])]
            if all(tokens > 8 and seconds > 0 for pair in pairs for tokens, seconds in pair):  # a shorter answer times little
                shares.append(stats.median([rate([(*on, '')]) / rate([(*off, '')]) for on, off in pairs]))
    return min(shares) if shares else None


def finish(suite):
    for subject, rounds in suite.results['plots'].get('speculation', {}).items():
        if (value := slowest(rounds)) is not None and subject in (HEARTH, SERVER):
            suite.add('spec_floor', subject, value)


SCENE = Scene('speculation', sequences=4, context=2048, visit=visit_servers, rounds=2, finish=finish,
              peer_variants=PEER_GUESSING)
