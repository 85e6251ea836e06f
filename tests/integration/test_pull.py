"""hearth pull against servers that speak the hub's and a registry's protocol, and against everything that goes wrong."""
import contextlib
import json
import os
import resource
import signal
import ssl
import struct
import subprocess
import threading
import time

import pytest
import support
from adapter_file import write_adapter
from model_source import COMMIT, Handler, ModelSource, sha256

KILLS = int(os.environ.get('HEARTH_KILLS', '200'))
BIG = os.urandom(6 << 20)


@pytest.fixture(autouse=True)
def nobodys_home(tmp_path, monkeypatch):
    """Nothing of this machine's user is found, remembered or changed."""
    monkeypatch.setenv('HEARTH_DATA_DIR', f'{tmp_path}.data')
    monkeypatch.setenv('XDG_CACHE_HOME', f'{tmp_path}.cache')
    monkeypatch.setenv('HEARTH_MODELS_DIR', '')


def pull(*arguments, folder, env=None, **kwargs):
    environment = {**os.environ, 'HF_ENDPOINT': '', 'HF_TOKEN': '', 'HTTPS_PROXY': '', 'https_proxy': '', 'ALL_PROXY': '',
                   'HEARTH_DATA_DIR': f'{folder}.data', 'XDG_CACHE_HOME': f'{folder}.cache', 'HEARTH_MODELS_DIR': '', **(env or {})}
    return subprocess.run([support.BINARY, 'pull', *map(str, arguments), '--models-dir', str(folder)], env=environment,
                          capture_output=True, text=True, timeout=support.PATIENCE_S, **kwargs)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_hub_model_is_pulled_and_found(model, tmp_path):
    with ModelSource({'tiny-Q4_0.gguf': model, 'tiny-Q8_0.gguf': b'other', 'README.md': b'x'}, token='secret') as hub:
        env = {'HF_ENDPOINT': hub.url, 'HF_TOKEN': 'secret'}
        result = pull('hf.co/org/repo:Q4_0', '--json', folder=tmp_path, env=env)
        assert result.returncode == 0, result.stderr
        said = json.loads(result.stdout)
        assert said['model'] == 'tiny-Q4_0' and said['revision'] == COMMIT
        assert said['files'] == [{'path': f'{tmp_path}/tiny-Q4_0.gguf', 'size': len(model), 'sha256': sha256(model), 'present': False}]
        again = json.loads(pull('org/repo:Q4_0', '--json', folder=tmp_path, env=env).stdout)
        assert again['files'][0]['present'] and again['fetched_bytes'] == 0
        refused = pull('org/repo', folder=tmp_path / 'other', env={'HF_ENDPOINT': hub.url})
        assert refused.returncode == 1 and 'HF_TOKEN' in refused.stderr
        missing = pull('org/repo:Q2_K', folder=tmp_path, env=env)
        assert missing.returncode == 3 and 'tiny-Q8_0' in missing.stderr
    assert names(tmp_path) == ['tiny-Q4_0.gguf', 'tiny-Q4_0.hearth.json']
    answer = support.run_cli('run', 'tiny-Q4_0', 'Once', '--raw', '-n', '4', '--models-dir', tmp_path)
    assert answer.returncode == 0 and answer.stdout


def test_the_hubs_token_stays_with_the_hub(model, tmp_path):
    with ModelSource({'tiny.gguf': model}) as blobs, ModelSource({'tiny.gguf': model}, token='secret') as hub:
        hub.blob_host = blobs.url
        result = pull('org/repo', folder=tmp_path, env={'HF_ENDPOINT': hub.url, 'HF_TOKEN': 'secret'})
        assert result.returncode == 0, result.stderr
        assert blobs.seen and all('Authorization' not in headers for _, headers in blobs.seen)
        assert all(headers['Authorization'] == 'Bearer secret' for _, headers in hub.seen)
        assert 'signature' not in result.stderr + (tmp_path / 'tiny.hearth.json').read_text()


def test_a_split_model_comes_as_a_set(tmp_path):
    parts = {f'q/big-Q4_0-0000{i}-of-00003.gguf': os.urandom(200_000) for i in (1, 2, 3)}
    with ModelSource(parts) as hub:
        pull('org/repo:Q4_0', folder=tmp_path, env={'HF_ENDPOINT': hub.url})  # not a GGUF file, which check says
        assert names(tmp_path) == [*(name.split('/')[1] for name in parts), 'big-Q4_0.hearth.json']
        order = [path for path, _ in hub.seen if path.endswith('.gguf')]
        assert '00001-of' in order[-1], 'the file by which the set is found comes last'


def test_safetensors_come_as_a_folder(tmp_path):
    weights = struct.pack('<Q', 2) + b'{}'  # no tensors
    files = {'config.json': b'{}', 'model.safetensors': weights, 'tokenizer.json': b'{}', 'pytorch_model.bin': b'no',
             '1_Pooling/config.json': b'{}', 'onnx/model.json': b'{}', 'consolidated.safetensors': weights, 'README.md': b'x'}
    with ModelSource(files) as hub:
        result = pull('org/repo', folder=tmp_path, env={'HF_ENDPOINT': hub.url})
        assert result.returncode == 0, result.stderr
        assert names(tmp_path / 'repo') == ['1_Pooling', 'README.md', 'config.json', 'model.safetensors', 'tokenizer.json']
        hub.files['model.safetensors'] = os.urandom(5000)
        broken = pull('org/repo', folder=tmp_path / 'other', env={'HF_ENDPOINT': hub.url})
        assert broken.returncode == 1 and 'model.safetensors' in broken.stderr, 'whole, but nothing that can be served'


def layers_of(model):
    kind = 'application/vnd.ollama.image.'
    return [(kind + 'model', model), (kind + 'template', b'{{ .Prompt }}'), (kind + 'params', b'{"stop":["x"]}'),
            (kind + 'license', b'MIT'), ('application/vnd.docker.container.image.v1+json', b'{}')]


def test_a_registry_model_is_pulled_with_what_it_says(model, tmp_path):
    with ModelSource(layers=layers_of(model), registry_token='anybody') as registry:
        result = pull(f'{registry.authority}/ns/model:tiny', folder=tmp_path)
        assert result.returncode == 0, result.stderr
        stem = f'{registry.authority}%2Fns%2Fmodel'
        note = json.loads((tmp_path / f'{stem}:tiny.hearth.json').read_text())
        assert (note['template'], note['params'], note['license']) == ('{{ .Prompt }}', '{"stop":["x"]}', 'MIT')
        assert pull(f'{registry.authority}/ns/model', folder=tmp_path).returncode == 0
        assert pull(f'{registry.authority}/ns/other', folder=tmp_path).returncode == 3
        seen = len(registry.seen)
        # By the name it was pulled by, without asking anybody.
        answer = support.run_cli('run', f'{registry.authority}/ns/model:tiny', 'Once', '--raw', '-n', '4', '--models-dir', tmp_path,
                                 environment={**os.environ, 'HEARTH_DATA_DIR': f'{tmp_path}.data'})
        assert answer.returncode == 0 and answer.stdout, answer.stderr
        assert len(registry.seen) == seen
    assert names(tmp_path) == [f'{stem}.gguf', f'{stem}.hearth.json', f'{stem}:tiny.gguf', f'{stem}:tiny.hearth.json']
    assert (tmp_path / f'{stem}.gguf').samefile(tmp_path / f'{stem}:tiny.gguf'), 'the same bytes were fetched once'


def test_a_model_with_an_adapter_is_pulled_and_served_with_it(model, stories_path, tmp_path):
    adapter = write_adapter(tmp_path / 'pirate.gguf', stories_path).read_bytes()
    folder = tmp_path / 'models'
    layers = [*layers_of(model), ('application/vnd.ollama.image.adapter', adapter)]
    with ModelSource(layers=layers) as registry:
        assert pull(f'{registry.authority}/ns/model:tiny', folder=folder).returncode == 0
        again = json.loads(pull(f'{registry.authority}/ns/model:tiny', '--json', folder=folder).stdout)
        assert all(file['present'] for file in again['files']) and again['fetched_bytes'] == 0
        registry.layers = layers_of(model)
        stem = f'{registry.authority}%2Fns%2Fmodel'
        assert names(folder) == [f'{stem}:tiny.gguf', f'{stem}:tiny.hearth.json', f'{stem}:tiny.lora-1']
        assert (folder / f'{stem}:tiny.lora-1').read_bytes() == adapter
        assert pull(f'{registry.authority}/ns/model', folder=folder).returncode == 0

    def say(name):
        answer = support.run_cli('run', name, 'Once upon a time', '--raw', '-n', '20', '--temperature', '0', '--models-dir', folder)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout
    assert say(f'{registry.authority}/ns/model:tiny') != say(f'{registry.authority}/ns/model'), 'the adapter says something else'


def test_an_adapter_with_another_hash_gets_no_name(model, tmp_path):
    with ModelSource(layers=[*layers_of(model), ('application/vnd.ollama.image.adapter', b'y' * 50)]) as registry:
        layers = [{'mediaType': kind, 'digest': f'sha256:{sha256(data)}', 'size': len(data)} for kind, data in registry.layers]
        layers[-1]['digest'] = f'sha256:{sha256(b"z" * 50)}'
        registry.manifest = json.dumps({'schemaVersion': 2, 'layers': layers}).encode()
        registry.blobs[layers[-1]['digest']] = b'y' * 50
        result = pull(f'{registry.authority}/ns/model', folder=tmp_path)
    assert result.returncode == 1 and 'wrong SHA-256' in result.stderr
    assert not [name for name in names(tmp_path) if name.endswith(('.gguf', '.lora-1'))]


def test_a_realm_on_another_host_is_not_asked(model, tmp_path):
    with ModelSource(layers=layers_of(model), registry_token='x', address='127.0.0.1') as registry, \
            ModelSource(registry_token='x', address='127.0.0.2') as other:
        registry.realm = f'{other.url}/token'
        result = pull(f'{registry.authority}/ns/model', folder=tmp_path)
        assert result.returncode == 1 and 'another host' in result.stderr
        assert not other.seen


@pytest.mark.parametrize('digest', ['sha256:../../../../etc/passwd', '../x', 'sha256-' + 'a' * 64, 'sha256:' + 'A' * 64])
def test_a_digest_is_never_a_path(digest, tmp_path):
    with ModelSource(layers=[]) as registry:
        layer = {'mediaType': 'application/vnd.ollama.image.model', 'digest': digest, 'size': 5}
        registry.manifest = json.dumps({'schemaVersion': 2, 'layers': [layer]}).encode()
        result = pull(f'{registry.authority}/ns/model', folder=tmp_path)
        assert result.returncode == 1 and 'digest' in result.stderr
    assert names(tmp_path) == []


def test_what_the_user_has_is_not_overwritten(model, tmp_path):
    (tmp_path / 'tiny.gguf').write_bytes(b'mine')
    with ModelSource({'tiny.gguf': model}) as source:
        result = pull(f'{source.url}/tiny.gguf', folder=tmp_path)
        assert result.returncode == 2 and 'stays as it is' in result.stderr
        assert (tmp_path / 'tiny.gguf').read_bytes() == b'mine'
        assert pull('other', '--source', f'{source.url}/tiny.gguf', folder=tmp_path).returncode == 0
    assert (tmp_path / 'other.gguf').read_bytes() == model


def test_a_local_file_is_linked(stories_path, model, tmp_path):
    mine = tmp_path / 'mine.gguf'
    mine.write_bytes(model)
    folder = tmp_path / 'models'
    assert pull(mine, folder=folder).returncode == 0
    assert (folder / 'mine.gguf').samefile(mine)
    assert pull('named', '--source', mine, folder=folder).returncode == 0
    assert (folder / 'named.gguf').read_bytes() == model


def test_a_local_folder_is_linked(model, tmp_path):
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'tiny.gguf').write_bytes(model)
    folder = tmp_path / 'models'
    assert pull(mine, folder=folder).returncode == 0
    assert (folder / 'tiny.gguf').samefile(mine / 'tiny.gguf')
    (mine / 'other.gguf').write_bytes(model)
    several = pull(mine, folder=folder)
    assert several.returncode == 2 and 'hearth import' in several.stderr


def test_a_users_list_names_models(model, tmp_path):
    folder = tmp_path / 'models'
    with ModelSource({'tiny.gguf': model}) as source:
        own = tmp_path / 'own.json'
        own.write_text(json.dumps([{'name': 'mine:1b', 'source': f'{source.url}/tiny.gguf'}]))
        result = pull('MINE:1b', '--known-models', own, folder=folder)
        assert result.returncode == 0, result.stderr
        data = tmp_path / 'models.data'
        environment = {**os.environ, 'HEARTH_DATA_DIR': str(data), 'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'HEARTH_MODELS_DIR': ''}
        listed = json.loads(support.run_cli('list', '--json', '--models-dir', folder, environment=environment).stdout)
        assert [(entry['name'], entry['aliases']) for entry in listed] == [('MINE:1b', ['tiny'])]
        (folder / 'tiny.gguf').unlink()
        (folder / 'tiny.hearth.json').unlink()
        own.write_text(json.dumps([{'name': 'mine:1b', 'source': f'{source.url}/tiny.gguf', 'sha256': 'a' * 64}]))
        other = pull('mine:1b', '--known-models', own, folder=folder)
        assert other.returncode == 1 and 'a' * 64 in other.stderr and names(folder) == []
        own.write_text(json.dumps([{'name': 'mine:1b', 'source': f'{source.url}/tiny.gguf', 'sha256': sha256(model)}]))
        own.rename(data / 'known-models.json')
        assert pull('mine:1b', folder=folder).returncode == 0, 'the list in the data folder is taken without being named'
        assert (folder / 'tiny.gguf').exists()
        answer = support.run_cli('run', 'mine:1b', 'Once', '--raw', '-n', '2', '--models-dir', folder, environment=environment)
        assert answer.returncode == 0 and 'pulling' not in answer.stderr, answer.stderr
        removed = support.run_cli('rm', 'mine:1b', '--json', '--models-dir', folder, environment=environment)
        assert removed.returncode == 0, removed.stderr
        assert json.loads(removed.stdout) == {'model': 'mine:1b', 'removed': True}
        assert names(folder) == []


def test_exit_codes_tell_what_is_wrong(tmp_path):
    with ModelSource() as source:
        assert pull(f'{source.url}/x.gguf', folder=tmp_path).returncode == 3
    nowhere = pull('nothing', folder=tmp_path, env={'HTTPS_PROXY': 'http://127.0.0.1:1'})
    assert nowhere.returncode == 4, 'a bare name is of the library of the usual registry, which is not reached'
    assert pull('org/..', folder=tmp_path).returncode == 2
    assert pull('http://192.0.2.1/x.gguf', folder=tmp_path).returncode == 2
    assert pull('./nothing.gguf', folder=tmp_path).returncode == 3
    assert pull('org/repo', folder=tmp_path, env={'HF_ENDPOINT': source.url}).returncode == 4, 'nobody listens there any more'
    assert names(tmp_path) == []


def test_ctrl_c_keeps_what_came(tmp_path):
    with ModelSource({'big.gguf': BIG}) as source:
        source.throttle = threading.Event()
        command = [support.BINARY, 'pull', f'{source.url}/big.gguf', '--connections', '1', '--models-dir', str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        support.wait_until(lambda: 'big.gguf: ' in process.stderr.readline(), 'the download begins')
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=support.PATIENCE_S)
        assert process.returncode == 130 and 'goes on from there' in said
        assert 'big.gguf.partial' in names(tmp_path) and 'big.gguf' not in names(tmp_path)
        source.throttle.set()
        source.seen.clear()
        pull(f'{source.url}/big.gguf', folder=tmp_path)
        assert (tmp_path / 'big.gguf').read_bytes() == BIG
        assert not any(headers['Range'].startswith('bytes=0-') for _, headers in source.seen), 'it went on'
    assert names(tmp_path) == ['big.gguf', 'big.hearth.json']


def test_two_processes_fetch_a_file_once(tmp_path):
    with ModelSource({'big.gguf': BIG}) as source:
        command = [support.BINARY, 'pull', f'{source.url}/big.gguf', '--models-dir', str(tmp_path)]
        both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        for process in both:
            assert process.communicate(timeout=support.PATIENCE_S) and process.returncode == 1  # no GGUF file, says check
        assert (tmp_path / 'big.gguf').read_bytes() == BIG
        # The later one may ask whether its file is still the same; it does not fetch it.
        assert len(source.seen) <= 2


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with ModelSource({'big.gguf': BIG}) as source:
        result = pull(f'{source.url}/big.gguf', folder=tmp_path, preexec_fn=limit)
    assert result.returncode == 1 and 'File too large' in result.stderr
    assert names(tmp_path) == []


@contextlib.contextmanager
def small_disk(folder, size):
    """A disk of its own at the folder, which is really full when it is."""
    folder.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'hearth-test', str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f'a small disk cannot be mounted here: {mounted.stderr.strip()}')
    try:
        yield folder
    finally:
        subprocess.run(['umount', str(folder)], check=True)


def fill(path):
    """Writes a file until there is no room for more."""
    with open(path, 'wb', buffering=0) as file:
        for step in (1 << 16, 1 << 9, 1):
            with contextlib.suppress(OSError):
                while file.write(b'x' * step):
                    pass


class Unannounced(Handler):
    """Says no length, keeps to no range, and stops half-way until the source lets go."""

    def send_ranges(self, data):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        half = len(data) // 2
        self.send_chunk(data[:half])
        self.server.throttle.wait()
        self.send_chunk(data[half:])
        self.wfile.write(b'0\r\n\r\n')

    def send_chunk(self, data):
        self.wfile.write(f'{len(data):x}\r\n'.encode() + data + b'\r\n')
        self.wfile.flush()


def test_a_disk_without_room_is_said_before_the_first_byte(tmp_path):
    with ModelSource({'big.gguf': BIG}) as source, small_disk(tmp_path / 'disk', '4m') as disk:
        result = pull(f'{source.url}/big.gguf', folder=disk)
        assert result.returncode == 1 and str(disk) in result.stderr, result.stderr
        assert f'{len(BIG)} more bytes are needed' in result.stderr and 'are free' in result.stderr, result.stderr
        assert names(disk) == []


def test_a_disk_that_fills_meanwhile_is_said_and_the_pull_goes_on_with_room(tmp_path):
    with ModelSource({'big.gguf': BIG}) as source, small_disk(tmp_path / 'disk', '16m') as disk:
        source.RequestHandlerClass = Unannounced
        source.throttle = threading.Event()
        command = [support.BINARY, 'pull', f'{source.url}/big.gguf', '--models-dir', str(disk)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        partial, filler = disk / 'big.gguf.partial', disk / 'filler'
        support.wait_until(lambda: partial.exists() and partial.stat().st_size > 0, 'the download to begin')
        fill(filler)
        source.throttle.set()
        _, said = process.communicate(timeout=support.PATIENCE_S)
        assert process.returncode == 1 and 'No space left on device' in said and str(disk) in said, said
        assert names(disk) == ['filler'], 'what nobody can go on with is gone'
        filler.unlink()
        again = pull(f'{source.url}/big.gguf', folder=disk)
        assert 'No space' not in again.stderr, again.stderr
        assert (disk / 'big.gguf').read_bytes() == BIG and 'big.gguf.partial' not in names(disk)


def certificate(folder, name):
    key, pem = folder / 'key.pem', folder / 'cert.pem'
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', f'/CN={name}', '-addext',
                    f'subjectAltName=IP:{name}', '-keyout', key, '-out', pem], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context, pem


@pytest.mark.parametrize('name, trusted, works', [('127.0.0.1', True, True), ('127.0.0.1', False, False), ('127.0.0.9', True, False)])
def test_tls_is_checked(name, trusted, works, model, tmp_path):
    context, pem = certificate(tmp_path, name)
    folder = tmp_path / 'models'
    folder.mkdir()
    with ModelSource({'tiny.gguf': model}, tls=context) as source:
        result = pull(f'{source.url}/tiny.gguf', folder=folder, env={'SSL_CERT_FILE': str(pem)} if trusted else {})
        if works:
            assert result.returncode == 0, result.stderr
            assert (folder / 'tiny.gguf').read_bytes() == model
        else:
            assert result.returncode == 1 and 'is not trusted' in result.stderr, result.stderr
            assert names(folder) == [] and not source.seen


def test_killed_anywhere_the_file_is_whole_or_absent(tmp_path):
    """Each run is killed at another time of its life; the next one goes on. The hub says the hash, so what went wrong would show."""
    with ModelSource({'big.gguf': BIG}) as hub:
        environment = {**os.environ, 'HF_ENDPOINT': hub.url, 'HEARTH_DATA_DIR': f'{tmp_path}.data'}
        command = [support.BINARY, 'pull', 'org/repo', '--limit-rate', '48MiB', '--models-dir', str(tmp_path)]
        target, state = tmp_path / 'big.gguf', tmp_path / 'big.gguf.partial.state'
        finished = resumed = 0
        began = time.monotonic()
        subprocess.run(command, env=environment, capture_output=True, timeout=support.PATIENCE_S)
        whole_run_s = time.monotonic() - began
        target.unlink()
        for number in range(KILLS):
            resumed += state.exists()
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.2 * whole_run_s * (number * 37 % 100) / 100)
            process.kill()
            process.wait()
            if target.exists():
                assert target.read_bytes() == BIG, f'run {number}: wrong under its name'
                target.unlink()
                finished += 1
            assert set(names(tmp_path)) <= {'big.gguf.partial', 'big.gguf.partial.state', 'big.gguf.partial.state.new',
                                            'big.hearth.json', 'big.hearth.json.new'}
        pull('org/repo', folder=tmp_path, env={'HF_ENDPOINT': hub.url})
        assert target.read_bytes() == BIG
        assert names(tmp_path) == ['big.gguf', 'big.hearth.json']
        print(f'{KILLS} runs: {finished} ended, {resumed} went on from what a killed one left')
        assert 0 < finished < KILLS and resumed > KILLS // 40
