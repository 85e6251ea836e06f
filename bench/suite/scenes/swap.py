"""Two models on disk and room for one: from a request for the one that is not there to its first token.

SmolLM2 and a model of the shape of Gemma 3 270M (or --swap-model). Hearth has a budget for one of them, llama-server's router one place.
"""
import pathlib

from .. import gemma_model, programs, stats
from ..client import COMPLETIONS
from ..figures import HEARTH, SERVER
from ..process import Server, free_port, warm
from .base import Scene

SWAPS, TOKENS, PROMPT = 8, 4, 'Once upon a time'


def models_of(visit):
    """Both files; the made-up one is written once for the run."""
    other = visit.suite.options.swap_model
    if other is None:
        other = visit.suite.folder / 'gemma-shaped-270m-q8_0.gguf'
        if not other.exists():
            gemma_model.write(other, gemma_model.GGML_Q8_0)
    return pathlib.Path(visit.suite.options.model).resolve(), pathlib.Path(other).resolve()


def name_of(model):
    return model.name.removesuffix('.gguf')


def start(visit, models):
    """A server that knows both models and has loaded none."""
    port = free_port()
    if visit.is_hearth:
        argv = programs.hearth_swapping(visit.suite.hearth, models, port)
    else:
        folder = visit.suite.folder / 'swap-models'
        folder.mkdir(exist_ok=True)
        for model in models:
            if not (folder / model.name).exists():
                (folder / model.name).symlink_to(model)
        argv = programs.llama_router(visit.suite.peers, folder, port, visit.flags)
    warm(argv[0], *models)
    label = f'swap {visit.subject}'
    visit.suite.results['info'].setdefault('commands', {})[label] = programs.shown(argv)
    return Server(argv, port, visit.suite.raw_path(label).with_suffix('.log'))


async def measure(visit, server, models):
    """Milliseconds of each swap, and what the first model said in each."""
    client = await visit.client_only(server)
    times, texts = [], []

    async def ask(model):
        body = {**client.completion(PROMPT, TOKENS), 'model': name_of(model)}
        return (await client.stream(body, COMPLETIONS)).checked(f'a request for {name_of(model)}')

    for model in models:
        await ask(model)  # and the first of the loop is a swap
    for i in range(SWAPS):
        answer = await ask(models[i % 2])
        times.append(answer.ttft_ms)
        if i % 2 == 0:
            texts.append(answer.text)
    return times, texts


def visit_server(visit):
    models = models_of(visit)
    with start(visit, models) as server:
        times, texts = visit.run(measure(visit, server, models))
    visit.draw({'ms': times, 'texts': texts})
    return {'swap': stats.median(times), 'swap_worst': max(times)}


def finish(suite):
    """Whether the swapped models say the same on both servers; the made-up model says noise, and is not asked."""
    drawn = suite.results['plots'].get('swap', {})
    texts = {subject: [text for r in rounds for text in r['texts']] for subject, rounds in drawn.items()}
    if 'swap_equal' in suite.wanted and texts.get(HEARTH) and texts.get(SERVER):
        expected = texts[SERVER][0]
        said = texts[HEARTH] + texts[SERVER]
        suite.add('swap_equal', HEARTH, 100 * sum(text == expected for text in said) / len(said))
    for path in (suite.folder / 'swap-models').glob('*'):
        path.unlink()
    (suite.folder / 'gemma-shaped-270m-q8_0.gguf').unlink(missing_ok=True)


SCENE = Scene('swap', sequences=1, context=2048, visit=visit_server, rounds=5, finish=finish)
