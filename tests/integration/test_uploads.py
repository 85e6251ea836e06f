"""Files that clients upload, models that are made of them, and models that are pushed."""
import http.client
import json
import os
import signal
import socket

import hf_folder
import ollama
import pytest
import support
from adapter_file import write_adapter
from model_source import ModelSource, sha256

BIG = os.urandom(3 << 20)
MODEL_LAYER = 'application/vnd.ollama.image.model'
NO_PROXY = {'HTTPS_PROXY': '', 'https_proxy': '', 'ALL_PROXY': ''}


@pytest.fixture
def data(tmp_path):
    return tmp_path / 'data'


def serve(folder, data, *arguments):
    return support.Server('--models-dir', str(folder), '--data-dir', str(data), *arguments, models=[], env=NO_PROXY)


@pytest.fixture
def server(models, data):
    with serve(models, data) as server:
        yield server


@pytest.fixture
def client(server):
    return ollama.Client(host=server.url)


def digest_of(data):
    return f'sha256:{sha256(data)}'


def blobs(data):
    folder = data / 'blobs'
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def post(server, digest, body, headers=None):
    fields = {'Content-Type': 'application/octet-stream', **(headers or {})}
    status, _, answer = server.request('POST', f'/api/blobs/{digest}', body, fields)
    return status, answer['error'] if isinstance(answer, dict) else answer


def begin_upload(server, digest, announced, first):
    stream = socket.create_connection(('127.0.0.1', server.port), timeout=support.PATIENCE_S)
    stream.sendall(b'POST /api/blobs/%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n' % (digest.encode(), announced) + first)
    return stream


def cli(server, *arguments, **more):
    return support.run_cli(*arguments, '--host', f'127.0.0.1:{server.port}', **more)


# --- blobs ---

def test_a_blob_is_there_once_it_was_uploaded(server, data):
    digest = digest_of(BIG)
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 404
    assert post(server, digest, BIG) == (201, '')
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 200
    assert post(server, digest, BIG)[0] == 200
    assert blobs(data) == [digest.replace(':', '-')]
    assert (data / 'blobs' / blobs(data)[0]).read_bytes() == BIG


def test_chunks_are_taken_and_so_is_an_empty_file(server, data):
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=support.PATIENCE_S)
    connection.request('POST', f'/api/blobs/{digest_of(BIG)}', (BIG[i:i + 70_001] for i in range(0, len(BIG), 70_001)), encode_chunked=True,
                       headers={'Transfer-Encoding': 'chunked'})
    assert connection.getresponse().status == 201
    assert post(server, digest_of(b''), b'')[0] == 201
    assert len(blobs(data)) == 2


def test_another_digest_is_refused_and_leaves_nothing(server, data):
    digest = 'sha256:' + '0' * 64
    status, error = post(server, digest, BIG)
    assert status == 400 and error == f'digest mismatch, expected "{digest}", got "{digest_of(BIG)}"'
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 404
    support.wait_until(lambda: blobs(data) == [], 'the file to go')


@pytest.mark.parametrize('digest', ['sha256:abc', 'sha256:' + 'A' * 64, 'sha512:' + 'a' * 64, 'a' * 64, 'sha256:' + 'a' * 63 + '%2F',
                                    'sha256:..%2F..%2F..%2Fetc%2Fpasswd', '..%2F..%2Fx', 'sha256:' + 'a' * 64 + '%00'])
def test_a_digest_is_never_a_path(server, data, tmp_path, digest):
    before = sorted(tmp_path.rglob('*'))
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 400
    assert post(server, digest, b'x')[0] == 400
    assert [path for path in sorted(tmp_path.rglob('*')) if path.name != 'blobs' and 'db' not in path.name] == \
           [path for path in before if 'db' not in path.name]


def test_an_upload_that_is_cut_leaves_nothing(server, data):
    digest = digest_of(BIG)
    stream = begin_upload(server, digest, len(BIG), BIG[:1 << 20])
    support.wait_until(lambda: blobs(data), 'the upload to begin')
    assert blobs(data)[0].startswith('.'), 'it has no name yet'
    stream.close()
    support.wait_until(lambda: blobs(data) == [], 'the file to go')
    assert post(server, digest, BIG)[0] == 201


def test_a_page_uploads_by_a_type_that_browsers_ask_about(server):
    for kind, status in (('text/plain', 415), ('application/octet-stream', 201)):
        assert post(server, digest_of(b'page'), b'page', {'Content-Type': kind, 'Origin': 'http://localhost:3000'})[0] == status


def test_killed_within_an_upload_nothing_is_wrong_and_nothing_is_left(models, data):
    digest = digest_of(BIG)
    with pytest.raises(AssertionError), serve(models, data) as server:
        assert post(server, digest_of(b'whole'), b'whole')[0] == 201
        stream = begin_upload(server, digest, len(BIG), BIG[:1 << 20])
        support.wait_until(lambda: len(blobs(data)) == 2, 'the upload to begin')
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        stream.close()
    assert len(blobs(data)) == 2
    with serve(models, data) as server:
        support.wait_until(lambda: len(blobs(data)) == 1, 'what was left to be removed')
        assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 404
        assert server.request('HEAD', f'/api/blobs/{digest_of(b"whole")}')[0] == 200


def test_blobs_nobody_used_for_a_day_go_at_the_next_start(models, data):
    with serve(models, data) as server:
        assert post(server, digest_of(b'old'), b'old')[0] == 201
        assert post(server, digest_of(b'new'), b'new')[0] == 201
    old = data / 'blobs' / digest_of(b'old').replace(':', '-')
    os.utime(old, (old.stat().st_mtime - 90_000,) * 2)
    with serve(models, data):
        support.wait_until(lambda: len(blobs(data)) == 1, 'the old one to go')


def test_beyond_this_machine_nobody_uploads_unless_models_are_allowed(models, data):
    with serve(models, data, '--host', '0.0.0.0', '--allow-unauthenticated') as server:
        assert post(server, digest_of(b'x'), b'x')[0] == 403
        assert server.request('HEAD', f'/api/blobs/{digest_of(b"x")}')[0] == 403


# --- models of files ---

def test_a_model_is_made_of_an_uploaded_file(client, models, data, stories_path, model):
    digest = client.create_blob(stories_path)
    assert digest == digest_of(model)
    lines = [part.status for part in client.create('tales', files={'any name.gguf': digest}, system='Tell.', stream=True)]
    assert lines == ['parsing GGUF', f'using existing layer {digest}', 'writing manifest', 'success']
    assert (models / 'tales.gguf').read_bytes() == model
    assert client.generate('tales', 'Once', raw=True, options={'num_predict': 4}).eval_count == 4
    assert 'SYSTEM Tell.' in client.show('tales').modelfile
    assert not [path for path in models.iterdir() if path.name.startswith('.')]
    assert client.create('tales', files={'other.gguf': digest}).status == 'success', 'it was created here, so it is replaced'


def test_names_with_a_host_or_a_namespace_are_names_like_others(client, models, data, stories_path, model):
    digest = client.create_blob(stories_path)
    for name in ('me/tales:tiny', '127.0.0.1:5000/ns/tales'):
        assert client.create(name, files={'any.gguf': digest}, system='Tell.').status == 'success'
        assert 'SYSTEM Tell.' in client.show(name).modelfile
        assert client.generate(name, 'Once', raw=True, options={'num_predict': 4}).eval_count == 4
    assert sorted(entry.model for entry in client.list().models) == ['127.0.0.1:5000/ns/tales:latest', 'me/tales:tiny']
    client.copy('me/tales:tiny', 'you/tales')
    assert client.generate('you/tales', 'Once', raw=True, options={'num_predict': 4}).eval_count == 4
    client.delete('you/tales')
    client.create('me/other', from_='127.0.0.1:5000/ns/tales:latest', system='Other.')
    assert 'SYSTEM Other.' in client.show('me/other:latest').modelfile
    for name in ('me/tales:tiny', '127.0.0.1:5000/ns/tales:latest', 'me/other'):
        client.delete(name)
    assert list(models.iterdir()) == [] and client.list().models == []


def test_what_is_made_is_recorded_like_what_is_pulled(server, client, models, data, stories_path, model):
    digest = client.create_blob(stories_path)
    client.create('tales', files={'any.gguf': digest})
    client.create('mine', from_='tales', system='Tell.')
    client.copy('mine', 'copied')
    for name in ('tales', 'mine', 'copied'):
        note = json.loads((models / f'{name}.hearth.json').read_text())
        assert note['files'] == [{'name': f'{name}.gguf', 'size': len(model), 'sha256': sha256(model), 'etag': ''}]
        job = server.request('POST', f'/api/v1/models/{name}/verify')[2]
        support.wait_until(lambda path=f'/api/v1/jobs/{job["id"]}': server.request('GET', path)[2]['state'] == 'done', 'it is verified')
    (models / 'mine.gguf').unlink()
    (models / 'mine.gguf').write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
    support.wait_until(lambda: server.request('GET', '/api/v1/models/mine')[2].get('state') == 'damaged', 'the damage is found')


def test_what_a_model_here_has_need_not_be_uploaded(server, client, models, data, stories_path, model):
    digest = digest_of(model)
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 404
    client.create_blob(stories_path)
    client.create('tales', files={'any.gguf': digest})
    for blob in (data / 'blobs').iterdir():
        blob.unlink()
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 200
    assert post(server, digest, b'not looked at') == (200, '') and blobs(data) == []
    assert client.create('again', files={'x.gguf': digest}).status == 'success'
    assert (models / 'again.gguf').samefile(models / 'tales.gguf')
    client.delete('tales')
    client.delete('again')
    assert server.request('HEAD', f'/api/blobs/{digest}')[0] == 404


def test_an_uploaded_model_is_quantised(client, models, stories_path):
    digest = client.create_blob(stories_path)
    parts = list(client.create('small', files={'stories.gguf': digest}, quantize='q8_0', stream=True))
    assert parts[-1].status == 'success'
    assert any(part.status.startswith('quantizing F32 model to q8_0') for part in parts), parts
    assert client.show('small').details.quantization_level == 'Q8_0'
    with pytest.raises(ollama.ResponseError) as caught:
        client.create('again', from_='small', quantize='q4_0')
    assert caught.value.status_code == 400 and 'only supported for F16' in caught.value.error


def test_uploaded_files_that_are_no_model_make_none(client, server, models):
    junk = digest_of(b'junk')
    assert post(server, junk, b'junk')[0] == 201

    def refused(**fields):
        status, _, body = server.request('POST', '/api/create', {'model': 'x', 'stream': False, **fields})
        return status, body['error']
    assert refused(files={'x.gguf': 'sha256:' + '0' * 64})[0] == 400
    assert 'not found' in refused(files={'x.gguf': 'sha256:' + '0' * 64})[1]
    assert refused(files={'x.gguf': junk})[0] == 400
    assert refused(files={'x.gguf': 'sha256:../../x'})[0] == 400
    assert refused(files={'../x.gguf': junk})[0] == 400
    assert refused(files={'a.gguf': junk, 'b.gguf': junk})[0] == 400
    assert refused(files={'x.gguf': junk}, **{'from': 'y'})[0] == 400
    assert refused(files={'x.safetensors': junk})[0] == 400
    assert list(models.iterdir()) == []


def test_a_model_of_the_users_own_is_not_replaced(client, models, stories_path, model):
    (models / 'mine.gguf').write_bytes(model)
    digest = client.create_blob(stories_path)
    with pytest.raises(ollama.ResponseError) as caught:
        client.create('mine', files={'mine.gguf': digest})
    assert 'not created here' in caught.value.error
    assert not (models / 'mine.hearth.json').exists()


def test_the_cli_sends_the_files_a_modelfile_names(server, models, tmp_path, stories_path, model):
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'weights.gguf').write_bytes(model)
    (work / 'Modelfile').write_text('FROM ./weights.gguf\nSYSTEM Tell.\nPARAMETER temperature 0\nPARAMETER stop a\nPARAMETER stop b\n')
    made = cli(server, 'create', 'tales', '-f', work / 'Modelfile', '--json')
    assert made.returncode == 0, made
    assert json.loads(made.stdout) == {'model': 'tales', 'warnings': []}
    assert (models / 'tales.gguf').read_bytes() == model
    note = json.loads((models / 'tales.hearth.json').read_text())
    assert note['system'] == 'Tell.' and json.loads(note['params']) == {'temperature': 0, 'stop': ['a', 'b']}
    smaller = cli(server, 'create', 'small', '-f', '-', '-q', 'q8_0', stdin='FROM tales')
    assert smaller.returncode == 0 and (models / 'small.gguf').stat().st_size < len(model), smaller
    shown = cli(server, 'show', 'tales')
    assert shown.returncode == 0 and 'architecture' in shown.stdout and 'llama' in shown.stdout, shown
    assert cli(server, 'show', 'nobody').returncode == 3
    refused = cli(server, 'create', 'x', '-f', '-', stdin='FROM nobody')
    assert refused.returncode == 3 and 'nobody' in refused.stderr, refused


def test_without_a_server_the_cli_makes_it_itself(models, tmp_path, stories_path):
    made = support.run_cli('create', 'small', '-f', '-', '-q', 'q8_0', '--models-dir', models, stdin=f'FROM {stories_path}')
    assert made.returncode == 0, made
    assert (models / 'small.gguf').stat().st_size < stories_path.stat().st_size
    assert sorted(path.name for path in models.iterdir()) == ['small.gguf', 'small.hearth.json']


# --- push ---

def named(client, source, name):
    client.create(source + '-of-mine', from_=source, system='Be brief.', parameters={'temperature': 0.5}, license='free',
                  messages=[{'role': 'user', 'content': 'Hi'}])
    client.copy(source + '-of-mine', name)


@pytest.fixture
def served(server, client, models, model):
    (models / 'tales.gguf').write_bytes(model)
    support.wait_until(lambda: any(entry.model == 'tales:latest' for entry in client.list().models), 'the model to be found')
    return client


def test_what_was_pushed_is_pulled_back_as_it_was(server, served, models, model, tmp_path):
    with ModelSource() as registry:
        name = f'{registry.authority}/ns/model:tiny'
        named(served, 'tales', name)
        lines = list(served.push(name, stream=True))
        said = [part.status for part in lines]
        assert said[0] == 'retrieving manifest' and said[-2:] == ['pushing manifest', 'success'], said
        assert all(line.startswith('pushing ') for line in said[1:-1])
        assert registry.blobs[digest_of(model)] == model
        manifest = json.loads(registry.manifests['/v2/ns/model/manifests/tiny'])
        whole = {part.digest for part in lines if part.total and part.completed == part.total}
        assert whole == {layer['digest'] for layer in manifest['layers']}, 'every layer is told, however fast it went'
        config = json.loads(registry.blobs[manifest['config']['digest']])
        assert config['model_format'] == 'gguf' and config['model_family'] == 'llama'
        other, other_data = tmp_path / 'other', tmp_path / 'other data'
        other.mkdir()
        with serve(other, other_data) as second:
            back = ollama.Client(host=second.url)
            lines = list(back.pull(name, stream=True))
            said = [part.status for part in lines]
            assert said[0] == 'pulling manifest' and said[-3:] == ['verifying sha256 digest', 'writing manifest', 'success'], said
            whole = {part.digest for part in lines if part.total and part.completed == part.total}
            assert whole == {layer['digest'] for layer in manifest['layers']}, 'every layer is told, however fast it went'
            pulled = next(other.glob('*.gguf'))
            assert pulled.read_bytes() == model
            assert 'SYSTEM Be brief.' in back.show(name).modelfile
            note = json.loads(next(other.glob('*.hearth.json')).read_text())
            assert note['system'] == 'Be brief.' and json.loads(note['params']) == {'temperature': 0.5} and note['license'] == 'free'
            assert json.loads(note['messages']) == [{'role': 'user', 'content': 'Hi'}]
        before = len(registry.uploads)
        assert served.push(name).status == 'success' and len(registry.uploads) == before, 'nothing is sent again'


@pytest.mark.parametrize('fault', ['cut', 503])
def test_a_push_survives_passing_trouble(served, model, fault):
    with ModelSource() as registry:
        registry.faults = [('PATCH', fault)]
        name = f'{registry.authority}/ns/model'
        named(served, 'tales', name)
        assert served.push(name).status == 'success'
        assert registry.faults == [] and registry.blobs[digest_of(model)] == model
        if fault == 'cut':
            first, second = [headers['Content-Range'] for path, headers in registry.seen if 'Content-Range' in headers][:2]
            assert first.startswith('0-') and second.startswith('10-'), 'it goes on where it was'


def test_an_adapter_is_pushed_with_its_model(served, model, models, stories_path, tmp_path):
    adapter = write_adapter(tmp_path / 'pirate.gguf', stories_path)
    digest = served.create_blob(adapter)
    served.create('pirate', from_='tales', adapters={'pirate.gguf': digest})
    with ModelSource() as registry:
        name = f'{registry.authority}/ns/model'
        served.copy('pirate', name)
        assert served.push(name).status == 'success'
        layers = json.loads(registry.manifests['/v2/ns/model/manifests/latest'])['layers']
        assert [layer['mediaType'].rsplit('.', 1)[1] for layer in layers] == ['model', 'adapter']
        assert registry.blobs[digest] == adapter.read_bytes()


def test_a_registry_that_says_another_digest_gets_no_manifest(server, served):
    with ModelSource() as registry:
        registry.faults = [('PUT', 'wrong digest')]
        name = f'{registry.authority}/ns/model'
        named(served, 'tales', name)
        status, _, body = server.request('POST', '/api/push', {'model': name, 'stream': False})
        assert status >= 500 and 'says it has' in body['error'], body
        assert registry.manifests == {}


def test_a_push_gets_a_token_of_the_registry_and_of_nobody_else(served):
    with ModelSource(registry_token='let me in') as registry, ModelSource() as elsewhere:
        name = f'{registry.authority}/ns/model'
        named(served, 'tales', name)
        assert served.push(name).status == 'success'
        registry.blobs.clear()
        registry.realm = f'http://127.0.0.2:{elsewhere.server_address[1]}/token'
        with pytest.raises(ollama.ResponseError) as caught:
            served.push(name)
        assert 'another host' in caught.value.error and elsewhere.seen == []


def test_a_registry_that_takes_no_uploads_is_said_in_the_status(server, served):
    with ModelSource() as registry:
        registry.faults = [('POST', 404)]
        name = f'{registry.authority}/ns/model'
        named(served, 'tales', name)
        status, _, body = server.request('POST', '/api/push', {'model': name, 'stream': False})
        assert status == 404 and 'takes no uploads' in body['error'], body


def test_what_cannot_be_pushed_is_an_error(server, served):
    def refused(**fields):
        status, _, body = server.request('POST', '/api/push', {'stream': False, **fields})
        return status, body['error']
    assert refused() == (400, "Missing required parameter: 'model'.") or refused()[0] == 400
    assert refused(model='nobody/nothing')[0] == 404
    assert refused(model='registry.example/ns/tales', insecure=True)[0] in (400, 404)
    assert refused(model='../x')[0] == 400


def test_the_cli_pushes_by_the_server_and_by_itself(server, served, models, data, model, tmp_path):
    with ModelSource() as registry:
        name = f'{registry.authority}/ns/model'
        named(served, 'tales', name)
        pushed = cli(server, 'push', name)
        assert pushed.returncode == 0 and pushed.stdout == f'pushed {name}\n', pushed
        registry.blobs.clear()
        server.stop()
        pushed = support.run_cli('push', name, '--models-dir', models, '--data-dir', data, environment={**os.environ, **NO_PROXY})
        assert pushed.returncode == 0, pushed
        assert registry.blobs[digest_of(model)] == model
        assert support.run_cli('push', 'nobody/nothing', '--models-dir', models, '--data-dir', data).returncode == 3


def test_a_pull_that_finds_nothing_is_404_in_ollamas_words(server, client):
    with ModelSource() as registry:
        status, _, body = server.request('POST', '/api/pull', {'model': f'{registry.authority}/ns/nothing', 'stream': False})
        assert (status, body) == (404, {'error': 'pull model manifest: file does not exist'})
        with pytest.raises(ollama.ResponseError) as caught:
            list(client.pull(f'{registry.authority}/ns/nothing2', stream=True))
        assert caught.value.error == 'pull model manifest: file does not exist'


def test_a_folder_is_sent_and_converted(server, client, models, tmp_path):
    if not hf_folder.MINILM.exists():
        pytest.skip(f'no test model at {hf_folder.MINILM}: `./dev setup` fetches it')
    folder = hf_folder.make('all-MiniLM-L6-v2', tmp_path)
    (tmp_path / 'Modelfile').write_text(f'FROM {folder}\n')
    made = cli(server, 'create', 'minilm', '-f', tmp_path / 'Modelfile')
    assert made.returncode == 0 and 'converting model' in made.stderr, made
    assert len(client.embed('minilm', 'A cat.').embeddings[0]) == 384
    here = tmp_path / 'here'
    made = support.run_cli('create', 'minilm', '-f', tmp_path / 'Modelfile', '--models-dir', here)
    assert made.returncode == 0 and sorted(path.name for path in here.iterdir()) == ['minilm.gguf', 'minilm.hearth.json'], made
    # The name of its folder is part of what is converted.
    assert abs((here / 'minilm.gguf').stat().st_size - (models / 'minilm.gguf').stat().st_size) < 1000
    assert not [path for path in models.iterdir() if path.name.startswith('.')]
