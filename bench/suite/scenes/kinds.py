"""Models that cannot go back to any place of a text: how many prompt tokens are computed when users take turns, and when they share.

The models are made here, in the shapes of LFM2 (attention and short convolutions) and Gemma 3 (sliding windows). Two situations: six
users in turn, eight turns each; and six users at once who share a system prompt of 2,000 tokens. Both servers have fewer slots than
there are users, as many as llama-server has by default; how it does with a slot for each user is measured beside.
"""
import asyncio
import pathlib
import tempfile

from .. import prompts, tiny_models
from ..figures import A_SLOT_EACH, HEARTH, SERVER, UNBOUNDED, UNCACHED
from ..process import MeasureError
from ..programs import Load
from .base import Scene

USERS, TURNS, SLOTS = 6, 8, 4
CELLS = 16384
SYSTEM, QUESTION, ANSWER = 200, 90, 40  # characters, which are tokens, of a chat
LONG_SYSTEM, SHORT_QUESTION, REPLY = 2000, 30, 8
NO_HOST_CACHE = ['--cache-ram', '0']
# llama-server puts a prompt into the slot it is most like, from this share on: above what the system prompt makes all users alike.
OWN_SLOTS = ['-sps', '0.7']


class Count:
    """What was asked and answered, in order: prompts as the server sees them, a character for each token, and what it computed."""

    def __init__(self):
        self.prompts, self.answers, self.computed = [], [], []

    def add(self, messages, answer):
        prompt = tiny_models.render(messages)
        if answer.prompt_tokens != len(prompt):
            raise MeasureError(f'the server counts {answer.prompt_tokens} tokens in a prompt of {len(prompt)}')
        computed = answer.prompt_tokens - answer.cached_tokens
        # llama-server also says how many it computed.
        told = answer.timings.get('prompt_n', computed)
        if told != computed:
            raise MeasureError(f'the server counts {answer.cached_tokens} of {answer.prompt_tokens} tokens as cached '
                               f'and {told} as computed')
        self.prompts.append(prompt)
        self.answers.append(answer.text)
        self.computed.append(computed)
        return answer.text


def common(a, b):
    """Characters that both begin with."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def computed_by_unbounded(asked, answers):
    """Tokens per prompt that a cache which forgets nothing computes: all behind the longest beginning seen before, and at least the
    last one. The last token of an answer is never computed with it."""
    seen, computed = [], []
    for prompt, answer in zip(asked, answers):
        known = max((common(prompt, text) for text in seen), default=0)
        computed.append(len(prompt) - min(known, len(prompt) - 1))
        seen.append(prompt + answer[:-1])
    return computed


async def ask(client, count, messages, tokens):
    answer = await client.stream(client.body(messages, tokens))
    return count.add(messages, answer.checked('a user of a small model'))


def words(length, name):
    """So many characters of words with single spaces, neither first nor last."""
    return prompts.words(length, name)[:length - 1].strip() + '.'


async def chats(visit, client):
    """Six users in turn; what was said before comes along."""
    count = Count()
    system = {'role': 'system', 'content': words(SYSTEM, f'{visit.seed} system')}
    texts = [[system] for _ in range(USERS)]
    for turn in range(TURNS):
        for user, messages in enumerate(texts):
            messages.append({'role': 'user', 'content': words(QUESTION, f'{visit.seed} question {user} {turn}')})
            messages.append({'role': 'assistant', 'content': await ask(client, count, messages, ANSWER)})
    return count


async def sharing(visit, client):
    """Six users at once, one system prompt."""
    count = Count()
    system = words(LONG_SYSTEM, f'{visit.seed} long system')
    everybody = [prompts.conversation(system, words(SHORT_QUESTION, f'{visit.seed} short question {user}')) for user in range(USERS)]
    await asyncio.gather(*(ask(client, count, messages, REPLY) for messages in everybody))
    return count


SITUATIONS = {'chats': chats, 'shared': sharing}


async def measure(visit, server, situation):
    return await situation(visit, await visit.client_only(server))


def flags_of(visit):
    if visit.subject == A_SLOT_EACH:
        return ['-np', USERS, *OWN_SLOTS, *NO_HOST_CACHE]
    return NO_HOST_CACHE if visit.subject == UNCACHED else []


def unbounded(visit):
    """Counted over what Hearth was asked and said."""
    rounds = visit.suite.results['plots'].get(visit.scene.name, {}).get(HEARTH, [])
    if not rounds:
        raise MeasureError('Hearth was not measured: there is nothing to count')
    return {f'{visit.scene.name}_{name}': sum(drawn['unbounded']) for name, drawn in rounds[-1].items()}


def visit_subject(visit):
    if visit.subject == UNBOUNDED:
        return unbounded(visit)
    values, drawn = {}, {}
    with tempfile.TemporaryDirectory(prefix='hearth-bench-') as folder:
        model = pathlib.Path(folder) / f'tiny-{visit.scene.name}.gguf'
        tiny_models.write(visit.scene.name, model)
        for name, situation in SITUATIONS.items():
            with visit.server(*flags_of(visit), load=Load(model, SLOTS, CELLS // SLOTS)) as server:
                count = visit.run(measure(visit, server, situation))
            drawn[name] = {'computed': count.computed, 'prompt': [len(p) for p in count.prompts],
                           'unbounded': computed_by_unbounded(count.prompts, count.answers)}
            values[f'{visit.scene.name}_{name}'] = sum(count.computed)
    visit.draw(drawn)
    return values


def scene(kind, variants):
    return Scene(kind, sequences=SLOTS, context=CELLS // SLOTS, visit=visit_subject, rounds=1,
                 subjects=(HEARTH, SERVER, UNCACHED, A_SLOT_EACH, UNBOUNDED), peer_variants=variants)


SCENES = (
    scene(tiny_models.HYBRID, {'default': [], 'kv unified': ['-kvu'], 'similarity 0.7': OWN_SLOTS,
                               'kv unified, checkpoints 64 apart': ['-kvu', '--checkpoint-min-step', '64']}),
    scene(tiny_models.WINDOW, {'default': [], 'kv unified': ['-kvu'], 'similarity 0.7': OWN_SLOTS,
                               'full window cache': ['--swa-full'],
                               'full window cache, kv unified, cache reuse': ['--swa-full', '-kvu', '--cache-reuse', '64']}),
)
