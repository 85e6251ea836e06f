"""Texts embedded per second: 1,000 short ones, all in one request and in requests of 50 over four connections; the better way counts.

With 8-bit weights, as the profile `quality` makes them, and with the 16 bits nearest to what is published. The vectors of both servers
are compared, too, and what the 8 bits cost. sentence-transformers, which computes with 32 bits, reads the published folder in a process
of its own, where --torch-python names a Python that has it.
"""
import asyncio
import base64
import json
import math
import random
import struct
import subprocess
import time

from .. import programs
from ..figures import HEARTH, SERVER, TORCH
from ..process import MeasureError
from ..programs import Load
from .base import NotAvailable, Scene

WORDS = ('the a river bank holds money cat sits on warm mat stock prices fell after report children play in garden how do i reset my '
         'password train leaves at noon for berlin please send invoice weather is cold today music calms').split()
TORCH_BATCHES, TORCH_PATIENCE_S = (16, 32, 128), 600
TYPES = {'embed': 'q8_0', 'embed_f16': 'f16'}  # of the model's file, by figure
TEXTS, PART, CONNECTIONS, COMPARED, SEED = 1000, 50, 4, 100, 20261122


def make_texts(count):
    chance = random.Random(SEED)
    return [' '.join(chance.choice(WORDS) for _ in range(chance.randint(5, 20))) for _ in range(count)]


def published():
    """MiniLM as it is published: safetensors."""
    folder = programs.cache_folder() / 'models' / 'all-MiniLM-L6-v2'
    if not folder.exists():
        raise NotAvailable(f'no {folder}: ./dev setup fetches it')
    return folder


def file_of(suite, kind):
    return suite.folder / f'MiniLM-{kind}.gguf'


def model_of(suite, kind):
    """MiniLM as one file, made once for the run."""
    path, folder = file_of(suite, kind), published()
    if not path.exists():
        programs.convert(suite.hearth, folder, path, kind)
    return path


# Reads {"folder", "threads", "texts", "batches"} and prints texts per second for each batch size; the first batch is not timed.
TORCH_PROGRAM = """
import json, sys, time
import torch
from sentence_transformers import SentenceTransformer
task = json.load(sys.stdin)
torch.set_num_threads(task['threads'])
model = SentenceTransformer(task['folder'], device='cpu')
rates = {}
for batch in task['batches']:
    model.encode(task['texts'][:batch], batch_size=batch)
    start = time.perf_counter()
    model.encode(task['texts'], batch_size=batch)
    rates[f'batches of {batch}'] = len(task['texts']) / (time.perf_counter() - start)
print(json.dumps(rates))
"""


def visit_torch(visit):
    python = visit.suite.options.torch_python
    if python is None:
        raise NotAvailable('no Python that has it: --torch-python')
    task = {'folder': str(published()), 'threads': visit.suite.options.threads, 'texts': make_texts(TEXTS), 'batches': TORCH_BATCHES}
    done = subprocess.run([str(python), '-c', TORCH_PROGRAM], input=json.dumps(task), capture_output=True, text=True,
                          timeout=TORCH_PATIENCE_S)
    if done.returncode != 0:
        raise MeasureError(f'{TORCH} ended with {done.returncode}: {done.stderr[-300:]}')
    rates = json.loads(done.stdout)
    visit.draw(rates)
    return {'embed': max(rates.values())}


async def embed(client, texts):
    """The vectors, as they come: base64."""
    status, body = await client.json('POST', '/v1/embeddings', {'model': client.model, 'input': texts, 'encoding_format': 'base64'})
    if status != 200 or len(body.get('data', [])) != len(texts):
        raise MeasureError(f'embeddings: status {status}, {str(body)[:200]}')
    return [entry['embedding'] for entry in body['data']]


async def in_parts(client, texts):
    parts = [texts[i:i + PART] for i in range(0, len(texts), PART)]

    async def one():
        while parts:
            await embed(client, parts.pop())
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def measure(visit, server):
    client = await visit.client_only(server)
    texts = make_texts(TEXTS)
    await embed(client, texts[:PART])  # what the first request alone costs
    rates = {}
    for name, way in (('one request', embed), ('four connections', in_parts)):
        start = time.perf_counter()
        await way(client, texts)
        rates[name] = TEXTS / (time.perf_counter() - start)
    return rates, await embed(client, texts[:COMPARED])


def visit_program(visit):
    return visit_torch(visit) if visit.subject == TORCH else visit_server(visit)


def visit_server(visit):
    flags = [] if visit.is_hearth else ['--embedding', '--pooling', 'mean']
    values, drawn = {}, {}
    for figure, kind in TYPES.items():
        load = Load(model_of(visit.suite, kind), visit.scene.sequences, visit.scene.context)
        with visit.server(*flags, load=load) as server:
            rates, vectors = visit.run(measure(visit, server))
        drawn |= {f'{kind}, {way}': rate for way, rate in rates.items()}
        visit.suite.taken['embed vectors', kind, visit.subject] = vectors
        values[figure] = max(rates.values())
    visit.draw(drawn)
    return values


def floats(text):
    data = base64.b64decode(text)
    return struct.unpack(f'<{len(data) // 4}f', data)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def smallest_cosine(ours, theirs):
    return min(cosine(floats(a), floats(b)) for a, b in zip(ours, theirs, strict=True))


def finish(suite):
    exact, rounded, theirs = (suite.taken.get(('embed vectors', *of)) for of in (('f16', HEARTH), ('q8_0', HEARTH), ('f16', SERVER)))
    for figure, pair in (('embed_equal', (exact, theirs)), ('embed_rounded', (rounded, exact))):
        if figure in suite.wanted and all(pair):
            suite.add(figure, HEARTH, smallest_cosine(*pair))
    for kind in TYPES.values():
        file_of(suite, kind).unlink(missing_ok=True)


SCENE = Scene('embed', sequences=4, context=512, visit=visit_program, rounds=5, subjects=(HEARTH, SERVER, TORCH), finish=finish,
              peer_variants={'default': [], 'batches of 2,048': ['-b', '2048', '-ub', '2048'],
                             'batches of 2,048, 16 slots': ['-b', '2048', '-ub', '2048', '-np', '16', '-c', '8192', '-fa', 'on']})
