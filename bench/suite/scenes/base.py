"""What a scene is, and what it is given: a scene is one situation that a scheduler must handle, taken with a server of its own start."""
import asyncio
import dataclasses
import typing

from .. import prompts
from ..client import Client, allow_many_connections
from ..figures import HEARTH, SERVER
from ..process import MeasureError
from ..programs import Load

SEED_TUNING = 7  # of visits that try flags
CLIENT_TIMEOUT_S = 600  # of a request: a slow machine must not turn slow answers into failures
PROBE_WORDS = 200  # of the prompts that tell how long words are in tokens


class NotAvailable(Exception):
    """A server lacks what the figure is about; the text says what."""


@dataclasses.dataclass(frozen=True)
class Scene:
    name: str
    sequences: int
    context: int  # tokens per sequence, of both servers
    visit: typing.Callable  # (Visit) -> {figure, or (figure, subject): value}
    rounds: int = 3  # at most so many of the run's repetitions
    subjects: tuple = (HEARTH, SERVER)
    # Flags of llama-server worth trying for this situation; the best for the first figure is kept.
    peer_variants: dict = dataclasses.field(default_factory=lambda: {'default': []})
    finish: typing.Callable | None = None  # (Suite) -> None: figures that need all rounds together


class Visit:
    """One round of one scene with one subject."""

    def __init__(self, suite, scene, subject, flags, seed):
        self.suite, self.scene, self.subject, self.flags, self.seed = suite, scene, subject, list(flags), seed
        self.load = Load(suite.options.model, scene.sequences, scene.context)

    @property
    def is_hearth(self):
        return self.subject == HEARTH

    @property
    def tuning(self):
        """The visit only tries flags of the peer: less of the same is enough."""
        return self.seed == SEED_TUNING

    def once(self, name, action):
        """What `action` gives, taken once for all visits of this scene with this subject and seed, whatever its flags."""
        key = self.scene.name, self.subject, self.seed, name
        if key not in self.suite.taken:
            self.suite.taken[key] = action()
        return self.suite.taken[key]

    @property
    def long(self):
        return self.suite.options.long

    def server(self, *flags, load=None, label=''):
        """A server of its own start; `label` names it in the report where a visit starts several with different flags."""
        name = f'{self.scene.name} {self.subject}' + (f', {label}' if label else '')
        return self.suite.start(self.subject, load or self.load, [*self.flags, *flags], name)

    def has_flag(self, flag):
        """Whether `hearth serve` knows the flag."""
        return flag in self.suite.hearth_flags()

    def draw(self, data):
        """Keeps what a plot needs, one entry per round."""
        self.suite.results['plots'].setdefault(self.scene.name, {}).setdefault(self.subject, []).append(data)

    def lacks(self, figure, why):
        """Notes that the subject cannot have this figure."""
        self.suite.results['unavailable'].setdefault(figure, {})[self.subject] = why

    def run(self, coroutine):
        allow_many_connections()
        return asyncio.run(coroutine)

    async def client_only(self, server, timeout_s=CLIENT_TIMEOUT_S):
        """A client of the server, which has seen nothing yet."""
        return await Client(server.url, timeout_s).ready()

    async def client(self, server, timeout_s=CLIENT_TIMEOUT_S):
        """A client of the server; the first one of a run also asks how long words are."""
        client = await self.client_only(server, timeout_s)
        info = self.suite.results['info']
        if 'tokens_per_word' not in info:
            counts = []
            for count in (PROBE_WORDS, 2 * PROBE_WORDS):
                answer = await client.stream(client.body(prompts.words(count, 'probe'), 1))
                counts.append(answer.checked('the probe for the length of words').prompt_tokens)
            if counts[1] <= counts[0]:
                raise MeasureError(f'the server counts {counts[0]} and {counts[1]} prompt tokens; it gives no usage')
            info['tokens_per_word'] = (counts[1] - counts[0]) / PROBE_WORDS
        return client

    def text(self, tokens, name):
        """About so many tokens; the same for the same name, round and run, so both servers read the same."""
        count = max(1, round(tokens / self.suite.results['info'].get('tokens_per_word', 1)))
        return prompts.words(count, f'{self.scene.name} {self.seed} {name}')

    async def interactive(self, client):
        """What marks a request as interactive; nothing where the server does not know classes."""
        if not self.is_hearth:
            return {}
        extra = {'priority': 'interactive'}
        answer = await client.stream(client.body('Hello.', 1, **extra))
        self.suite.results['info']['priority'] = 'accepted' if answer.answered else f'status {answer.status}: {answer.text[:200]}'
        return extra if answer.answered else {}
