"""`hearth import`: models of other programs, used where they are."""
import json
import os

import support
from model_source import sha256
from test_library import listed, serve

KIND = 'application/vnd.ollama.image.'


def ollama_store(folder, data):
    """As Ollama keeps a model."""
    blob = folder / 'blobs' / f'sha256-{sha256(data)}'
    blob.parent.mkdir(parents=True)
    blob.write_bytes(data)
    manifest = folder / 'manifests/registry.ollama.ai/library/tiny/latest'
    manifest.parent.mkdir(parents=True)
    layer = {'mediaType': KIND + 'model', 'digest': f'sha256:{sha256(data)}', 'size': len(data)}
    manifest.write_text(json.dumps({'schemaVersion': 2, 'layers': [layer]}))
    lie = manifest.with_name('lie')
    lie.write_text(json.dumps({'schemaVersion': 2, 'layers': [{**layer, 'size': 1}]}))


def hub_cache(folder, data):
    snapshot = folder / 'models--org--tiny-GGUF/snapshots/abc'
    blobs = folder / 'models--org--tiny-GGUF/blobs'
    for each in (snapshot, blobs):
        each.mkdir(parents=True)
    (blobs / sha256(data)).write_bytes(data)
    (snapshot / 'tiny.gguf').symlink_to(f'../../blobs/{sha256(data)}')


def lm_studio(folder, data):
    repository = folder / 'publisher/tiny-GGUF'
    repository.mkdir(parents=True)
    (repository / 'tiny-Q8_0.gguf').write_bytes(data)
    (repository / 'mmproj-tiny.gguf').write_bytes(data)


def run(home, *arguments):
    environment = {**os.environ, 'HOME': str(home), 'HEARTH_DATA_DIR': str(home / 'data'), 'HEARTH_MODELS_DIR': '', 'HF_HOME': '',
                   'HF_HUB_CACHE': '', 'OLLAMA_MODELS': '', 'XDG_CACHE_HOME': str(home / '.cache')}
    return support.run_cli(*arguments, environment=environment)


def test_what_other_programs_keep_is_served_where_it_is(model, models, tmp_path):  # noqa: F811
    nothing = run(tmp_path, 'import')
    assert nothing.returncode == 3 and 'name one' in nothing.stderr
    ollama_store(tmp_path / '.ollama/models', model)
    hub_cache(tmp_path / '.cache/huggingface/hub', model)
    lm_studio(tmp_path / '.lmstudio/models', model)
    with serve(models, data=tmp_path / 'data') as server:
        assert listed(server) == []
        done = run(tmp_path, 'import')
        assert done.returncode == 0, done.stderr
        for name in ('tiny:latest', 'hf.co/org/tiny-GGUF:tiny', 'publisher/tiny-GGUF:tiny-Q8_0'):
            assert name in done.stdout
            support.wait_until(lambda: name in listed(server), f'{name} to be known')  # noqa: B023
            assert server.complete('Once', max_tokens=1, model=name)['model'] == name
        assert 'refused' in done.stdout and 'the manifest says otherwise' in done.stdout
        assert 'mmproj' not in done.stdout
        assert len(listed(server)) == 3
        status, _, body = server.request('DELETE', '/api/v1/models/publisher/tiny-GGUF:tiny-Q8_0')
        assert status == 403 and 'LM Studio' in body['error']['message']
        assert run(tmp_path, 'import', '--forget', str(tmp_path / '.lmstudio/models')).returncode == 0
        support.wait_until(lambda: len(listed(server)) == 2, 'it to be forgotten')
    with serve(models, data=tmp_path / 'data') as server:
        assert len(listed(server)) == 2, 'also by the next server'
        assert run(tmp_path, 'import', '--forget', str(tmp_path / '.ollama/models')).returncode == 0
        support.wait_until(lambda: len(listed(server)) == 1, 'one that was imported before the start to be forgotten')


def test_a_plain_folder_and_what_is_wrong_with_it(model, tmp_path):  # noqa: F811
    plain = tmp_path / 'plain'
    plain.mkdir()
    (plain / 'good.gguf').write_bytes(model)
    (plain / 'short.gguf').write_bytes(model[:1000])
    done = run(tmp_path, 'import', str(plain), '--json')
    assert done.returncode == 0, done.stderr
    [folder] = json.loads(done.stdout)
    assert folder['folder'] == str(plain.resolve()) and folder['refused'] == []
    problems = {entry['name']: entry['problem'] for entry in folder['models']}
    assert problems['good'] == '' and problems['short'] != ''
    assert {entry['name'] for entry in json.loads(run(tmp_path, 'list', '--json').stdout)} == {'good', 'short'}
    missing = run(tmp_path, 'import', str(tmp_path / 'none'))
    assert missing.returncode == 3 and 'is no folder' in missing.stderr
    (tmp_path / 'empty').mkdir()
    assert run(tmp_path, 'import', str(tmp_path / 'empty')).returncode == 3
