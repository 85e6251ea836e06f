"""Tokens guessed ahead: answers that copy much of their prompt, and answers that do not, with guessing and without."""
import contextlib

from .. import prompts, stats
from ..figures import HEARTH
from .base import NotAvailable, Scene

SETS = {'spec_copy': prompts.copy_set, 'spec_chat': prompts.chat_set}
# Of each prompt with and without, one after the other; answers that copy are far from the floor. Who may be near it by these is
# asked further, and once more without guessing: what two runs of the same differ by tells how much of the floor is noise.
PAIRS = {'spec_copy': 1, 'spec_chat': 5}
NEAR_FLOOR = 1.1
MORE_PAIRS = 15
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
    """{way: {set: [[(tokens, seconds, text), one per pair], one per prompt]}}, where 'again' is 'off' once more; a prompt goes to the
    servers of all ways in turn, so what slows the machine for a while slows all. No answer is guessed from an earlier one to the same
    prompt: only Hearth, which can be told to keep them apart, is asked again."""
    clients = {way: await visit.client(server) for way, server in servers.items()}
    for client in clients.values():
        (await client.stream(client.body('Hello.', 16))).checked('the greeting')
    asked = {**servers, 'again': servers['off']}
    found = {way: {name: [] for name in sets} for way in asked}
    for name, prompts_of_set in sets.items():
        for number, (prompt, tokens) in enumerate(prompts_of_set):
            rows = {way: [] for way in asked}
            for way in asked:
                found[way][name].append(rows[way])
            ways = sorted(servers)
            for pair in range(PAIRS[name] + MORE_PAIRS if visit.is_hearth else 1):
                if pair == PAIRS[name]:
                    if visit.tuning or not is_timed(rows) or share(rows['on'], rows['off']) > NEAR_FLOOR:
                        break
                    ways = sorted(asked)
                turn = (number + pair) % len(ways)
                for way in ways[turn:] + ways[:turn]:
                    extra = {'cache_salt': f'{number} {pair} {way}'} if visit.is_hearth else {}
                    client = clients['off' if way == 'again' else way]
                    rows[way].append(await answered(client, prompt, tokens, f'a prompt of {name}', extra))
    return found


def rate(rows):
    """Tokens per second of a set: all tokens after each first one, over the time they took."""
    return sum(max(0, row[0] - 1) for row in rows) / max(1e-9, sum(row[1] for row in rows))


def is_timed(rows):
    """A shorter answer times little."""
    return all(tokens > 8 and seconds > 0 for of_way in rows.values() for tokens, seconds, *_ in of_way)


def share(these, those):
    """A prompt's speed in these answers, as a share of that in those; the median over pairs."""
    return stats.median([rate([one]) / rate([other]) for one, other in zip(these, those)])


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
    rows = {way: {name: [row for prompt in by_set[name] for row in prompt[:PAIRS[name]]] for name in sets}
            for way, by_set in found.items()}
    pairs = [(a[2], b[2]) for name in sets for a, b in zip(rows['on'][name], rows['off'][name])]
    visit.draw({way: {name: [[[tokens, seconds] for tokens, seconds, _ in prompt] for prompt in by_set[name]] for name in sets}
                for way, by_set in found.items()})
    values = {name: rate(rows['on'][name]) / rate(rows['off'][name]) for name in sets}
    return {**values, 'spec_rate': rate(rows['on']['spec_copy']), 'spec_equal': 100 * sum(a == b for a, b in pairs) / len(pairs)}


def slowest(rounds):
    """(the share of the worst prompt, the worst of those without guessing among themselves), over the pairs of all rounds."""
    shares, noise = [], []
    for name in SETS:
        for i in range(len(rounds[0]['on'][name])):
            on, off, last, again = [], [], [], []
            for r in rounds:
                on += r['on'][name][i]
                off += r['off'][name][i]
                more = r['again'][name][i]
                again += more
                last += r['off'][name][i][len(r['off'][name][i]) - len(more):]
            if is_timed({'on': on, 'off': off, 'again': again}):
                shares.append(share(on, off))
                noise += [share(again, last)] if again else []
    return min(shares, default=None), min(noise, default=None)


def finish(suite):
    """Of Hearth alone: who is asked once cannot be told from noise."""
    rounds = suite.results['plots'].get('speculation', {}).get(HEARTH)
    for figure, value in zip(('spec_floor', 'spec_noise'), slowest(rounds) if rounds else ()):
        if value is not None:
            suite.add(figure, HEARTH, value)


SCENE = Scene('speculation', sequences=4, context=2048, visit=visit_servers, rounds=2, finish=finish,
              peer_variants=PEER_GUESSING)
