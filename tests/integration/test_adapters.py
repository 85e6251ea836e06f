"""LoRA adapters: names of their own on a base's worker, made by hand or by `hearth create`."""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import signal

import pytest
import support
from adapter_file import write_adapter, write_peft

PROMPTS = ['Once upon a time', 'The little dog', 'Tom and Lily went to the park. ', 'One day']


def say(server, model, prompt, tokens=30):
    body = server.complete(prompt, model=model, max_tokens=tokens, temperature=0, ignore_eos=True)
    assert body['model'] == model
    return body['choices'][0]['text']


@pytest.fixture(scope='module')
def adapter(stories_path, tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp('adapters') / 'pirate.gguf', stories_path)


@pytest.fixture(scope='module')
def server(stories_path, adapter):
    other = write_adapter(adapter.parent / 'other.gguf', stories_path, rank=2, seed=2)
    with support.Server('--lora', f'pirate=base:{adapter}', '--lora', f'nothing=base:{adapter}:0',
                        '--lora', f'both=base:{adapter}:0.5', '--lora', f'both=base:{other}',
                        models=[f'base={stories_path}']) as server:
        yield server


def test_one_worker_answers_for_all_names(server):
    assert len(server.workers()) == 1
    models = {model['id']: model for model in server.request('GET', '/v1/models')[2]['data']}
    assert list(models) == ['base', 'pirate', 'nothing', 'both']
    assert 'parent' not in models['base'] and models['pirate']['parent'] == 'base'
    assert models['pirate']['adapters'] == [{'file': 'pirate.gguf', 'scale': 1}]
    assert [each['scale'] for each in models['both']['adapters']] == [0.5, 1]
    _, _, shown = server.request('POST', '/api/show', {'model': 'pirate'})
    assert shown['details']['parent_model'] == 'base' and 'ADAPTER ./pirate.gguf' in shown['modelfile']


def test_each_name_says_something_else_and_a_scale_of_nothing_the_same(server, stories_path):
    said = {name: [say(server, name, prompt) for prompt in PROMPTS] for name in ('base', 'pirate', 'both', 'nothing')}
    assert said['nothing'] == said['base']
    assert said['pirate'] != said['base'] and said['both'] != said['base'] and said['both'] != said['pirate']
    with support.Server(models=[f'base={stories_path}']) as plain:
        assert [say(plain, 'base', prompt) for prompt in PROMPTS] == said['base'], 'the base is what it is without adapters'


def test_at_once_each_gets_what_it_gets_alone(server):
    asked = [(name, prompt) for prompt in PROMPTS for name in ('base', 'pirate', 'both')]
    alone = [say(server, *each) for each in asked]
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        for _ in range(3):
            assert list(pool.map(lambda each: say(server, *each), asked)) == alone


def test_no_prefix_is_shared(server):
    prompt = 'A long prompt that nobody asked before, ' * 3
    cached = []
    for name in ('base', 'pirate', 'both', 'pirate', 'base'):
        usage = server.complete(prompt, model=name, max_tokens=1)['usage']
        cached.append(usage['prompt_tokens_details']['cached_tokens'])
    # Each name has BOS from its own earlier prompts.
    assert max(cached[:3]) <= 1 and cached[3] > 20 and cached[4] > 20, cached


def test_embeddings_are_those_of_the_name(server):
    vectors = {}
    for name in ('base', 'pirate', 'nothing'):
        _, _, body = server.request('POST', '/v1/embeddings', {'model': name, 'input': 'Once upon a time'})
        vectors[name] = body['data'][0]['embedding']
    assert vectors['base'] == vectors['nothing'] and vectors['base'] != vectors['pirate']


def test_a_model_that_does_not_rank_says_so(server):
    status, _, body = server.request('POST', '/v1/rerank', {'model': 'pirate', 'query': 'q', 'documents': ['a']})
    assert status == 400 and 'cross-encoder' in body['error']['message']


@pytest.mark.parametrize('how, part', [
    (lambda data: data[:len(data) // 2], 'reaches past'),
    (lambda data: b'', 'byte 0'),
    (lambda data: data.replace(b'blk.0.attn_q.weight.lora_b', b'blk.9.attn_q.weight.lora_b'), 'has'),
    (lambda data: data.replace(b'lora.alpha', b'lora.alphb').replace(b'adapter.type', b'adapter.typo'), 'adapter.type'),
], ids=['truncated', 'empty', 'unpaired', 'untyped'])
def test_a_damaged_file_is_refused_before_anything_starts(stories_path, adapter, tmp_path, how, part):
    bad = tmp_path / 'bad.gguf'
    bad.write_bytes(how(adapter.read_bytes()))
    made = support.run_cli('serve', '--port', '0', '--model', f'base={stories_path}', '--lora', f'pirate=base:{bad}')
    assert made.returncode != 0 and str(bad) in made.stderr, made.stderr


def test_an_adapter_of_another_model_is_refused(smollm2_path, adapter):
    made = support.run_cli('serve', '--port', '0', '--model', f'base={smollm2_path}', '--lora', f'pirate=base:{adapter}')
    assert made.returncode != 0 and 'adapter of another model' in made.stderr, made.stderr


def test_names_on_a_base_stay_when_its_file_was_swapped_before_a_restart(stories_path, adapter, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    for name in ('a.gguf', 'b.gguf'):
        shutil.copy(stories_path, folder / name)
    flags = ['--models-dir', str(folder), '--data-dir', str(tmp_path / 'data'), '--lora', f'pirate=base:{adapter}']
    with support.Server(*flags, models=['base=a']) as server:
        said = say(server, 'pirate', 'Once upon a time')
        assert server.request('POST', '/api/v1/models/base/swap', {'model': 'b'})[0] == 200
        assert say(server, 'pirate', 'Once upon a time') == said
    with support.Server(*flags, models=['base=a']) as server:
        assert say(server, 'pirate', 'Once upon a time') == said


# The front looked at the file before; the worker looks again, and what it finds ends the model, not the server.
def test_a_file_that_breaks_under_a_server_harms_its_base_alone(stories_path, adapter, tmp_path):
    file = tmp_path / 'pirate.gguf'
    shutil.copy(adapter, file)
    other = tmp_path / 'other.gguf'
    other.symlink_to(stories_path)
    with support.Server('--lora', f'pirate=base:{file}', models=[f'base={stories_path}', f'other={other}']) as server:
        assert say(server, 'pirate', 'Once', 3)
        worker = server.worker_of(stories_path)
        file.write_bytes(file.read_bytes()[:1000])
        os.kill(worker, signal.SIGKILL)
        support.wait_until(lambda: server.request('POST', '/v1/completions', {'model': 'pirate', 'prompt': 'x'})[0] == 503,
                           'the model fails')
        assert say(server, 'other', 'Once', 3)


def test_create_makes_a_model_with_an_adapter_that_rm_takes_away_again(stories_path, adapter, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    shutil.copy(stories_path, folder / 'base.gguf')
    (tmp_path / 'Modelfile').write_text(f'FROM base\nADAPTER {os.path.relpath(adapter, tmp_path)}\n')
    environment = {**os.environ, 'HEARTH_MODELS_DIR': str(folder)}
    made = support.run_cli('create', 'pirate', '-f', tmp_path / 'Modelfile', environment=environment)
    assert made.returncode == 0, made.stderr
    assert (folder / 'pirate.lora-1').samefile(adapter) and (folder / 'pirate.gguf').samefile(folder / 'base.gguf')
    with support.Server('--models-dir', str(folder), '--lora', f'x=base:{adapter}',
                        models=[f'base={folder / "base.gguf"}']) as server:
        assert say(server, 'pirate', 'Once upon a time') == say(server, 'x', 'Once upon a time')
        assert server.request('DELETE', '/api/v1/models/pirate')[0] < 300
        assert sorted(path.name for path in folder.iterdir()) == ['base.gguf']


def loaded(server):
    return {model['name']: model['size'] for model in server.request('GET', '/api/ps')[2]['models']}


def test_models_made_of_one_base_share_its_worker(stories_path, adapter, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    shutil.copy(stories_path, folder / 'base.gguf')
    other = write_adapter(tmp_path / 'other.gguf', stories_path, rank=2, seed=2)
    environment = {**os.environ, 'HEARTH_MODELS_DIR': str(folder)}
    # A model that wants no more context than the base has, and one that says more than there is.
    for name, file, context in (('pirate', adapter, 64), ('parrot', other, 4096)):
        (tmp_path / 'Modelfile').write_text(f'FROM base\nADAPTER {file}\nPARAMETER num_ctx {context}\n')
        made = support.run_cli('create', name, '-f', tmp_path / 'Modelfile', environment=environment)
        assert made.returncode == 0, made.stderr
    with support.Server('--lora', f'pirate=base:{adapter}', '--lora', f'parrot=base:{other}',
                        models=[f'base={stories_path}']) as expected:
        said = {name: say(expected, name, 'Once upon a time') for name in ('base', 'pirate', 'parrot')}
    with support.Server('--models-dir', str(folder), models=[]) as server:
        assert say(server, 'pirate', 'Once upon a time') == said['pirate']
        worker, = server.workers()
        assert {name: say(server, name, 'Once upon a time') for name in said} == said
        assert server.workers() == [worker]
        sizes = loaded(server)
        assert set(sizes) == {'base:latest', 'pirate:latest', 'parrot:latest'}
        assert sizes['base:latest'] > 0 and sizes['pirate:latest'] == sizes['parrot:latest'] == 0, 'memory counts once'

        # One that goes takes nothing from the others; the base that goes leaves them to themselves.
        assert server.request('DELETE', '/api/delete', {'model': 'pirate'})[0] == 200
        assert say(server, 'base', 'Once upon a time') == said['base'] and server.workers() == [worker]
        assert server.request('POST', '/api/generate', {'model': 'pirate', 'prompt': 'x'})[0] == 404
        assert server.request('DELETE', '/api/delete', {'model': 'base'})[0] == 200
        assert say(server, 'parrot', 'Once upon a time') == said['parrot']
        status, _, body = server.request('POST', '/api/generate', {'model': 'parrot', 'keep_alive': 0})
        assert status == 200 and body['done_reason'] == 'unload'
        support.wait_until(lambda: loaded(server) == {}, 'the model to leave')


def test_a_model_made_while_its_base_runs_joins_it(stories_path, adapter, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    shutil.copy(stories_path, folder / 'base.gguf')
    (tmp_path / 'Modelfile').write_text(f'FROM base\nADAPTER {adapter}\n')
    with support.Server('--models-dir', str(folder), models=[]) as server:
        alone = say(server, 'base', 'Once upon a time', 200)
        body = {'model': 'base', 'prompt': 'Once upon a time', 'max_tokens': 8000, 'temperature': 0, 'ignore_eos': True,
                'context_overflow': 'shift'}
        with concurrent.futures.ThreadPoolExecutor(1) as pool, contextlib.closing(server.open_stream('/v1/completions', body)) as stream:
            arriving = support.events(stream)
            first = next(arriving)
            made = support.run_cli('create', 'pirate', '-f', tmp_path / 'Modelfile', '--host', f'127.0.0.1:{server.port}')
            assert made.returncode == 0, made.stderr
            assert len(server.request('GET', '/api/v1/requests')[2]['requests']) == 1, 'what ran runs'
            rest = pool.submit(list, arriving)
            assert not alone.startswith(say(server, 'pirate', 'Once upon a time'))
            *seen, last = [first, *rest.result()]
            said = ''.join(choice['text'] for event in seen for choice in json.loads(event)['choices'])
            assert last == '[DONE]' and said.startswith(alone), 'and ends as it began'
        assert say(server, 'base', 'Once upon a time', 200) == alone
        assert len(server.workers()) == 1


def test_what_peft_saved_becomes_the_same_adapter(stories_path, adapter, tmp_path):
    folder = write_peft(tmp_path / 'peft', stories_path)
    needs = support.run_cli('convert', folder, '-o', tmp_path / 'out.gguf')
    assert needs.returncode != 0 and '--base' in needs.stderr
    made = support.run_cli('convert', folder, '--base', stories_path, '-o', tmp_path / 'out.gguf')
    assert made.returncode == 0, made.stderr
    checked = support.run_cli('check', tmp_path / 'out.gguf', '--json')
    assert checked.returncode == 0 and json.loads(checked.stdout)[0]['adapter']
    with support.Server('--lora', f'a=base:{adapter}', '--lora', f'b=base:{tmp_path / "out.gguf"}',
                        models=[f'base={stories_path}']) as server:
        assert [say(server, 'a', prompt) for prompt in PROMPTS] == [say(server, 'b', prompt) for prompt in PROMPTS]
        refused = support.run_cli('serve', '--port', '0', '--model', f'base={stories_path}', '--lora', f'c=base:{folder}')
        assert refused.returncode != 0 and 'hearth convert' in refused.stderr


def test_a_modelfile_takes_what_peft_saved(stories_path, adapter, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    shutil.copy(stories_path, folder / 'base.gguf')
    write_peft(tmp_path / 'peft', stories_path)
    (tmp_path / 'Modelfile').write_text('FROM base\nADAPTER ./peft\n')
    made = support.run_cli('create', 'here', '-f', tmp_path / 'Modelfile', '--models-dir', folder)
    assert made.returncode == 0, made.stderr
    with support.Server('--models-dir', str(folder), '--lora', f'x=base:{adapter}',
                        models=[f'base={folder / "base.gguf"}']) as server:
        made = support.run_cli('create', 'there', '-f', tmp_path / 'Modelfile', '--host', f'127.0.0.1:{server.port}')
        assert made.returncode == 0, made.stderr
        assert (folder / 'here.lora-1').read_bytes() == (folder / 'there.lora-1').read_bytes()
        said = [say(server, name, 'Once upon a time') for name in ('x', 'here', 'there')]
        assert said[0] == said[1] == said[2] != say(server, 'base', 'Once upon a time')
    (tmp_path / 'peft/adapter_model.safetensors').unlink()
    refused = support.run_cli('create', 'none', '-f', tmp_path / 'Modelfile', '--models-dir', folder)
    assert refused.returncode != 0 and 'adapter_model.safetensors' in refused.stderr, refused
    assert not (folder / 'none.gguf').exists()


def test_an_adapter_in_ollamas_folder_is_used(stories_path, adapter, tmp_path):
    (tmp_path / 'blobs').mkdir()
    layers = []
    for kind, path in (('adapter', adapter), ('model', stories_path)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, tmp_path / 'blobs' / f'sha256-{digest}')
        layers.append({'mediaType': f'application/vnd.ollama.image.{kind}', 'digest': f'sha256:{digest}', 'size': path.stat().st_size})
    projector = {**layers[0], 'mediaType': 'application/vnd.ollama.image.projector'}
    for name, parts in (('pirate', layers), ('plain', layers[1:]), ('seer', [layers[1], projector])):
        manifest = tmp_path / 'manifests/registry.ollama.ai/library' / name / 'latest'
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({'schemaVersion': 2, 'layers': parts}))
    with support.Server('--models-dir', str(tmp_path), '--lora', f'x=base:{adapter}', models=[f'base={stories_path}']) as server:
        def says(name):
            return server.complete('Once upon a time', model=name, max_tokens=30, temperature=0, ignore_eos=True)['choices'][0]['text']
        assert says('pirate:latest') == says('x') != says('base') == says('plain:latest')
        shown = server.request('GET', '/api/v1/models/pirate')[2]
        assert len(shown['adapters']) == 1 and 'ADAPTER ./sha256-' in shown['modelfile']
        status, _, body = server.request('POST', '/v1/completions', {'model': 'seer', 'prompt': 'x'})
        assert status == 400 and 'projector' in body['error']['message'], body
    refused = support.run_cli('run', 'seer', 'x', '--models-dir', tmp_path)
    assert refused.returncode == 1 and 'projector' in refused.stderr


def test_a_server_makes_a_model_of_an_uploaded_adapter(stories_path, adapter, tmp_path):
    folder = tmp_path / 'models'
    folder.mkdir()
    shutil.copy(stories_path, folder / 'base.gguf')
    (tmp_path / 'Modelfile').write_text(f'FROM base\nADAPTER {adapter}\n')
    with support.Server('--models-dir', str(folder), '--lora', f'x=base:{adapter}',
                        models=[f'base={folder / "base.gguf"}']) as server:
        made = support.run_cli('create', 'pirate', '-f', tmp_path / 'Modelfile', '--host', f'127.0.0.1:{server.port}')
        assert made.returncode == 0, made.stderr
        assert (folder / 'pirate.lora-1').read_bytes() == adapter.read_bytes()
        assert say(server, 'pirate', 'Once upon a time') == say(server, 'x', 'Once upon a time')
        digest = 'sha256:' + '0' * 64
        status, _, body = server.request('POST', '/api/create', {'model': 'y', 'from': 'base', 'adapters': {'a': digest}})
        assert status == 400 and 'adapters' in body['error'], body
