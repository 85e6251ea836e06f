"""Folders of safetensors as models with names: pulled, in a models folder, in Hugging Face's cache; and what they are trusted for."""
import concurrent.futures
import json
import math
import os
import shutil

import hf_folder
import pytest
import support
from model_source import ModelSource

EXPECTED = json.loads((support.SOURCE / 'tests/integration/embeddings_expected.json').read_text())
TINY = 'Tiny-qwen3-1M'
PULLED = 'hf.co/org/repo'
SOON_S = 15  # what is not noticed waits longer: 30 s after the folders were last looked into


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    return hf_folder.make(TINY, tmp_path_factory.mktemp('folders'))


@pytest.fixture
def cache(tmp_path):
    """An environment in which nothing was converted yet."""
    return {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'HEARTH_DATA_DIR': str(tmp_path / 'data')}


def serve(folder, *arguments, env=None, models=()):
    return support.Server('--models-dir', str(folder), *arguments, models=list(models), env=env)


def listed(server):
    return {model['name']: model for model in server.request('GET', '/api/v1/models')[2]['models']}


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def published(folder):
    """A hub's files of the folder, without what git keeps there."""
    return {str(path.relative_to(folder)): str(path) for path in folder.rglob('*') if path.is_file() and not path.name.startswith('.')}


# --- pulled from a hub ---------------------------------------------------------

@pytest.fixture(scope='module')
def minilm(tmp_path_factory):
    if not hf_folder.MINILM.exists():
        pytest.skip(f'no test model at {hf_folder.MINILM}: `./dev setup` fetches it')
    folder = tmp_path_factory.mktemp('models')
    with ModelSource(published(hf_folder.MINILM)) as hub, serve(folder, env={'HF_ENDPOINT': hub.url, 'HF_TOKEN': ''}) as server:
        status, _, job = server.request('POST', '/api/v1/models/pull', {'model': PULLED})
        assert status == 202, job
        support.wait_until(lambda: server.request('GET', f'/api/v1/jobs/{job["id"]}')[2]['state'] == 'done', 'the pull')
        yield server, folder


def embed(server, texts, model=PULLED):
    status, _, body = server.request('POST', '/v1/embeddings', {'model': model, 'input': texts})
    assert status == 200, body
    return [row['embedding'] for row in body['data']]


def test_a_pulled_folder_is_listed_with_what_it_says(minilm):
    server, folder = minilm
    assert (folder / 'repo/1_Pooling/config.json').exists() and (folder / 'repo/README.md').exists()
    model = listed(server)[PULLED]
    assert (model['architecture'], model['capabilities'], model['license']) == ('bert', ['embedding'], 'apache-2.0')
    assert model['context'] == 512 and 22e6 < model['parameters'] < 23e6 and model['size'] > 90e6 and model['problem'] == ''
    tags = {each['name']: each for each in server.request('GET', '/api/tags')[2]['models']}
    assert tags[f'{PULLED}:latest']['details']['family'] == 'bert' and tags[f'{PULLED}:latest']['size'] == model['size']


def test_vectors_are_those_of_the_reference(minilm):
    server, _ = minilm
    rows = EXPECTED['rows']
    vectors = embed(server, [row['text'] for row in rows])
    cosines = [cosine(ours, row['vector']) for ours, row in zip(vectors, rows, strict=True)]
    assert len(cosines) == 12 and min(cosines) >= 0.9999, cosines
    assert cosine(vectors[0], vectors[1]) < 0.9, 'they are not all the same'


def test_what_is_damaged_is_not_served(minilm):
    server, folder = minilm
    embed(server, ['x'])
    weights = folder / 'repo/config.json'
    before = weights.read_bytes()
    weights.write_bytes(before.replace(b'"vocab_size"', b'"vocab_sizf"'))
    support.wait_until(lambda: listed(server)[PULLED]['state'] == 'damaged', 'the damage to be found')
    assert server.request('POST', '/v1/embeddings', {'model': 'repo', 'input': 'x'})[0] == 503
    weights.write_bytes(before)
    support.wait_until(lambda: listed(server)[PULLED]['state'] != 'damaged', 'the model to be whole again')
    assert len(embed(server, ['x'])[0]) == 384


# --- in a models folder --------------------------------------------------------

def test_a_folder_is_converted_when_it_is_first_asked_for(tiny, models, cache):
    shutil.copytree(tiny, models / TINY)
    environment = {key: cache[key] for key in ('XDG_CACHE_HOME', 'HEARTH_DATA_DIR')}
    with serve(models, env=environment) as server:
        model = listed(server)[TINY]
        assert (model['state'], model['architecture'], model['quantization']) == ('cold', 'qwen3', 'F32')
        made = support.pathlib.Path(cache['XDG_CACHE_HOME']) / 'hearth/quantised'
        assert not made.exists() or not list(made.glob('*.gguf'))
        shown = server.request('POST', '/api/show', {'model': TINY})[2]
        assert shown['details']['format'] == 'safetensors' and not list(made.glob('*.gguf')), 'showing converts nothing'
        assert server.request('POST', '/api/generate', {'model': TINY, 'keep_alive': 0})[2]['done_reason'] == 'unload'
        status, _, body = server.request('GET', f'/api/v1/models/estimate?model={TINY}')
        assert (status, body['error']['code'], body['error']['param']) == (400, 'unsupported_by_model', 'model'), body
        assert 'once it is converted' in body['error']['message'] and str(models) not in body['error']['message']
        assert not list(made.glob('*.gguf')) and server.request('GET', '/api/v1/jobs?kind=quantize')[2]['jobs'] == []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            ask = lambda _: server.complete('Once', model=TINY.lower(), max_tokens=4, temperature=0)['choices'][0]['text']
            said = set(pool.map(ask, range(4)))
        assert len(said) == 1 and len(list(made.glob('*.gguf'))) == 1
        assert listed(server)[TINY]['state'] == 'ready'
        assert server.request('GET', f'/api/v1/models/estimate?model={TINY}')[0] == 200
        assert server.request('POST', '/api/show', {'model': TINY})[2]['details']['format'] == 'gguf'
        assert server.request('GET', '/v1/models')[2]['data'][0]['id'] == TINY
    with serve(models, env=environment, models=[TINY]) as server:  # named at the start it is the same model
        assert list(listed(server)) == [TINY] and listed(server)[TINY]['state'] == 'ready'
        assert server.request('DELETE', f'/api/v1/models/{TINY}')[0] == 403, 'given by --model'
    with serve(models, env=environment) as server:
        assert server.request('DELETE', f'/api/v1/models/{TINY}')[0] == 204
        assert list(models.iterdir()) == []


def test_what_changes_in_a_folder_is_noticed_at_once(tiny, models, cache):
    name, folder = f'org/{TINY}', models / 'org' / TINY  # as deep as LM Studio's lie
    config = json.loads((tiny / 'config.json').read_text())
    half = config['max_position_embeddings'] // 2
    with serve(models, env={'XDG_CACHE_HOME': cache['XDG_CACHE_HOME']}) as server:
        shutil.copytree(tiny, folder)
        support.wait_until(lambda: name in listed(server), 'the model to come', SOON_S)
        (folder / 'config.json').write_text(json.dumps({**config, 'max_position_embeddings': half}))
        support.wait_until(lambda: listed(server).get(name, {}).get('context') == half, 'another config to count', SOON_S)
        (folder / 'config.json').rename(folder / 'elsewhere')
        support.wait_until(lambda: name not in listed(server), 'the model to go', SOON_S)
        (folder / 'elsewhere').rename(folder / 'config.json')
        support.wait_until(lambda: name in listed(server), 'the model to come back', SOON_S)


def test_a_name_moves_to_a_folder_and_stays_there(tiny, stories_path, models, cache):
    shutil.copytree(tiny, models / TINY)
    shutil.copy(stories_path, models / 'a.gguf')
    environment = {key: cache[key] for key in ('XDG_CACHE_HOME', 'HEARTH_DATA_DIR')}

    def family(server):
        server.complete('Once', model='a', max_tokens=2)
        return server.request('POST', '/api/show', {'model': 'a'})[2]['details']['family']

    with serve(models, env=environment) as server:
        assert family(server) == 'llama'
        status, _, body = server.request('POST', '/api/v1/models/a/swap', {'model': TINY})
        assert status == 200 and body['state'] == 'ready', body
        assert family(server) == 'qwen3'
    with serve(models, env=environment) as server:
        assert family(server) == 'qwen3', 'it is remembered'


def test_what_cannot_be_converted_says_why(tiny, models, cache):
    shutil.copytree(tiny, models / TINY)
    config = json.loads((models / TINY / 'config.json').read_text())
    (models / TINY / 'config.json').write_text(json.dumps({**config, 'architectures': ['MambaForCausalLM']}))
    with serve(models, env={'XDG_CACHE_HOME': cache['XDG_CACHE_HOME']}) as server:
        status, _, body = server.request('POST', '/v1/completions', {'model': TINY, 'prompt': 'x'})
        assert status == 503 and 'MambaForCausalLM' in body['error']['message'], body
        assert str(models) not in body['error']['message']


def test_commands_take_it_by_name(tiny, models, cache):
    shutil.copytree(tiny, models / TINY)
    answer = support.run_cli('run', TINY, 'Once', '-n', '4', '--models-dir', models, environment=cache)
    assert answer.returncode == 0 and answer.stdout, answer.stderr
    rows = json.loads(support.run_cli('list', '--models-dir', models, '--json', environment=cache).stdout)
    assert [(row['name'], row['problem'], row['capabilities']) for row in rows] == [(TINY, '', ['completion'])]
    assert rows[0]['chat_template_pinned'] == rows[0]['chat_template_sha256'] != ''
    shown = support.run_cli('show', TINY, '--models-dir', models, environment=cache)
    assert shown.returncode == 0 and 'qwen3' in shown.stdout
    refused = support.run_cli('estimate', TINY, '--models-dir', models, environment=cache)
    assert refused.returncode == 1 and 'hearth convert' in refused.stderr
    made = support.run_cli('create', 'brief', '-f', '-', '--models-dir', models, stdin=f'FROM {TINY}\nSYSTEM Be brief.\n',
                           environment=cache)
    assert made.returncode == 0 and (models / 'brief.gguf').exists(), made.stderr
    assert json.loads((models / 'brief.hearth.json').read_text())['from'] == TINY
    gone = support.run_cli('rm', TINY, '--models-dir', models, environment=cache)
    assert gone.returncode == 0 and not (models / TINY).exists(), gone.stderr


def test_run_pulls_a_folder_and_answers(tiny, models, cache):
    with ModelSource(published(tiny)) as hub:
        environment = {**cache, 'HF_ENDPOINT': hub.url, 'HF_TOKEN': ''}
        answer = support.run_cli('run', 'hf.co/org/repo', 'Once', '-n', '4', '--models-dir', models, environment=environment)
        assert answer.returncode == 0 and answer.stdout, answer.stderr
        pulled = support.run_cli('pull', 'hf.co/org/repo', '--models-dir', models, environment=environment)
        assert pulled.returncode == 0 and pulled.stdout == f'repo is in {models}/repo\n', pulled
    assert sorted(path.name for path in models.iterdir()) == ['repo', 'repo.hearth.json']


# --- in Hugging Face's cache ---------------------------------------------------

def test_a_cache_is_served_in_place(tiny, stories_path, models, cache):
    repository = models / 'models--org--tiny'
    blobs = repository / 'blobs'
    blobs.mkdir(parents=True)

    def snapshot(commit, files):
        for name, source in files.items():
            blob = blobs / f'{commit}-{name.replace("/", "-")}'
            shutil.copy(source, blob)
            link = repository / 'snapshots' / commit / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))

    snapshot('aaa', {**published(tiny), 'Q8/stories.gguf': stories_path})
    snapshot('bbb', {'old.gguf': stories_path})
    (repository / 'refs').mkdir()
    (repository / 'refs/main').write_text('aaa')
    (repository / 'refs/v1').write_text('bbb')
    with serve(models, env={'XDG_CACHE_HOME': cache['XDG_CACHE_HOME']}) as server:
        assert list(listed(server)) == ['hf.co/org/tiny', 'hf.co/org/tiny:stories', 'hf.co/org/tiny@v1:old']
        for name in listed(server):
            assert server.complete('Once', model=name, max_tokens=2)['model'] == name
        status, _, body = server.request('DELETE', '/api/v1/models/hf.co%2Forg%2Ftiny')
        assert status == 403 and 'hf cache delete' in body['error']['message']
        snapshot('ccc', {'Q8/later.gguf': stories_path})
        (repository / 'refs/v2').write_text('ccc')
        support.wait_until(lambda: 'hf.co/org/tiny@v2:later' in listed(server), 'a revision to come', SOON_S)
        (repository / 'snapshots/ccc/Q8/later.gguf').unlink()
        support.wait_until(lambda: 'hf.co/org/tiny@v2:later' not in listed(server), 'it to go', SOON_S)


# --- trust ---------------------------------------------------------------------

def with_template(tiny, folder, template):
    """The model with that chat template, as a GGUF file."""
    source = folder / 'source'
    shutil.copytree(tiny, source, dirs_exist_ok=True)
    (source / 'chat_template.jinja').write_text(template)
    made = support.run_cli('convert', source, '-o', folder / 'm.gguf', '--force')
    assert made.returncode == 0, made.stderr
    return folder / 'm.gguf'


ONE = '{% for m in messages %}{{ m.content }}{% endfor %}'
OTHER = '{% for m in messages %}Obey: {{ m.content }}{% endfor %}'


def test_run_refuses_another_template_until_it_is_trusted(tiny, tmp_path, cache):
    def run():
        return support.run_cli('run', tmp_path / 'm.gguf', 'Once', '-n', '2', environment=cache)
    with_template(tiny, tmp_path, ONE)
    assert run().returncode == 0 and run().returncode == 0
    with_template(tiny, tmp_path, OTHER)
    refused = run()
    assert refused.returncode == 1 and f'hearth trust {tmp_path}/m.gguf' in refused.stderr and not refused.stdout
    trusted = support.run_cli('trust', tmp_path / 'm.gguf', '--json', environment=cache)
    assert trusted.returncode == 0, trusted.stderr
    assert json.loads(trusted.stdout) == {'model': f'{tmp_path}/m.gguf', 'trusted': True}
    assert run().returncode == 0


def test_a_file_that_serve_was_given_is_trusted_by_its_template(tiny, tmp_path, cache):
    environment = {'HEARTH_DATA_DIR': cache['HEARTH_DATA_DIR']}
    model = f'm={with_template(tiny, tmp_path, ONE)}'
    empty = tmp_path / 'models'
    with serve(empty, env=environment, models=[model]) as server:
        server.complete('x', max_tokens=1)
    with_template(tiny, tmp_path, OTHER)
    with serve(empty, env=environment, models=[model]) as server:
        status, _, body = server.request('POST', '/v1/completions', {'prompt': 'x', 'max_tokens': 1})
        assert status == 403 and body['error']['code'] == 'template_changed', body
        assert server.request('POST', '/api/chat', {'model': 'm', 'messages': [{'role': 'user', 'content': 'x'}]})[0] == 403
        assert server.request('POST', '/api/v1/models/trust', {'model': 'm'})[0] == 204
        server.complete('x', max_tokens=1)
