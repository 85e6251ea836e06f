"""Tokens guessed ahead: answers that copy much of their prompt, and answers that do not, with guessing and without."""
from .. import prompts, stats
from ..figures import HEARTH, SERVER
from .base import NotAvailable, Scene

SETS = {'spec_copy': prompts.copy_set, 'spec_chat': prompts.chat_set}
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


async def answers(visit, server, sets):
    """{set: [(tokens per second, text)]}; each prompt once, so nothing is guessed from an earlier answer to it."""
    client = await visit.client(server)
    (await client.stream(client.body('Hello.', 16))).checked('the greeting')
    found = {}
    for name, prompts_of_set in sets.items():
        found[name] = []
        for prompt, tokens in prompts_of_set:
            answer = await client.stream(client.body(prompt, tokens, ignore_eos=False))
            answer.checked(f'a prompt of {name}')
            found[name].append((answer.usage.get('completion_tokens', 0), answer.times[-1] - answer.times[0], answer.text))
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
    order = ('on', 'off') if visit.seed // 1000 % 2 else ('off', 'on')

    def answered(way):
        visit.flags = ways[way]
        with visit.server(label=way) as server:
            return visit.run(answers(visit, server, sets))
    found = {way: visit.once('off', lambda: answered('off')) if way == 'off' else answered('on') for way in order}
    pairs = [(a[2], b[2]) for name in sets for a, b in zip(found['on'][name], found['off'][name])]
    visit.draw({way: {name: [[tokens, seconds] for tokens, seconds, _ in rows] for name, rows in by_set.items()}
                for way, by_set in found.items()})
    values = {name: rate(found['on'][name]) / rate(found['off'][name]) for name in sets}
    return {**values, 'spec_rate': rate(found['on']['spec_copy']), 'spec_equal': 100 * sum(a == b for a, b in pairs) / len(pairs)}


def slowest(rounds):
    """The worst prompt's speed with guessing, as a share of that without; per prompt the median over the rounds."""
    shares = []
    for name in SETS:
        for i in range(len(rounds[0]['on'][name])):
            rates = {way: [rate([(*r[way][name][i], '')]) for r in rounds] for way in ('on', 'off')}
            timed = [r[way][name][i] for r in rounds for way in ('on', 'off')]
            if all(tokens > 8 and seconds > 0 for tokens, seconds in timed):  # a shorter answer times little
                shares.append(stats.median(rates['on']) / stats.median(rates['off']))
    return min(shares) if shares else None


def finish(suite):
    for subject, rounds in suite.results['plots'].get('speculation', {}).items():
        if (value := slowest(rounds)) is not None and subject in (HEARTH, SERVER):
            suite.add('spec_floor', subject, value)


SCENE = Scene('speculation', sequences=4, context=2048, visit=visit_servers, rounds=2, finish=finish,
              peer_variants=PEER_GUESSING)
