"""`hearth list` and `hearth show`: models found in place, in three layouts, and what is remembered of them."""
import fcntl
import hashlib
import json
import os

import pytest
import support
from test_damage import flip


@pytest.fixture
def world(stories_path, tmp_path):
    """One model as a plain file, as Ollama keeps it and in Hugging Face's cache; all of it links to one file in there."""
    root = tmp_path / 'models'
    data = stories_path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    blobs = root / 'blobs'
    blobs.mkdir(parents=True)
    (blobs / f'sha256-{digest}').write_bytes(data)
    (root / 'plain.gguf').symlink_to(f'blobs/sha256-{digest}')
    manifest = root / 'manifests/registry.ollama.ai/library/stories/latest'
    manifest.parent.mkdir(parents=True)
    layer = {'mediaType': 'application/vnd.ollama.image.model', 'digest': f'sha256:{digest}', 'size': len(data)}
    manifest.write_text(json.dumps({'schemaVersion': 2, 'layers': [layer]}))
    snapshot = root / 'hub/models--org--stories-GGUF/snapshots/abc'
    snapshot.mkdir(parents=True)
    os.link(blobs / f'sha256-{digest}', snapshot / 'stories.gguf')
    return root, tmp_path / 'data', blobs / f'sha256-{digest}'


def hearth(world, command, *arguments):
    root, data, _ = world
    return support.run_cli(command, *arguments, '--models-dir', root, '--data-dir', data)


def test_list_names_what_is_there_in_every_layout(world):
    result = hearth(world, 'list', '--json')
    assert result.returncode == 0, result.stderr
    models = {m['name']: m for m in json.loads(result.stdout)}
    ours = ['hf.co/org/stories-GGUF:stories', 'plain', 'stories:latest']
    assert set(ours) <= set(models)
    assert [models[name]['layout'] for name in ours] == ['hugging-face', 'folder', 'ollama']
    for name in ours:
        assert models[name]['architecture'] == 'llama' and models[name]['problem'] == ''
        assert models[name]['parameters'] > 0 and models[name]['file_bytes'] == world[2].stat().st_size
    text = hearth(world, 'list').stdout
    assert text.startswith('NAME') and 'stories:latest' in text


def test_the_names_listed_are_the_names_served(world):
    for name in ('plain', 'stories', 'hf.co/org/stories-GGUF:stories'):
        result = support.run_cli('run', name, 'Once upon', '--raw', '-n', '3', '-t', '0', '--models-dir', world[0])
        assert result.returncode == 0 and result.stdout.strip(), result.stderr


def test_show_verifies_and_notices_a_changed_byte(world):
    assert 'verified' in hearth(world, 'show', 'stories', '--verify').stdout
    blob = bytearray(world[2].read_bytes())
    blob[-1] ^= 1
    world[2].write_bytes(blob)
    broken = hearth(world, 'show', 'stories', '--verify')
    assert broken.returncode == 1 and 'it should be' in broken.stderr


def test_show_has_a_server_that_runs_verify_and_confirm(model, models, tmp_path):
    (models / 'mine.gguf').write_bytes(model)
    with support.Server('--models-dir', str(models), '--data-dir', str(tmp_path / 'data'), models=[]) as server:
        def show(*arguments):
            return support.run_cli('show', *arguments, '--host', f'127.0.0.1:{server.port}')
        done = show('mine', '--verify', '--confirm-template')
        assert done.returncode == 0 and done.stdout.startswith('mine\n') and 'was read whole' in done.stderr, done
        before = (models / 'mine.gguf').stat()
        flip(models / 'mine.gguf')
        os.utime(models / 'mine.gguf', ns=(before.st_atime_ns, before.st_mtime_ns))
        broken = show('mine', '--verify')
        assert broken.returncode == 1 and 'SHA-256' in broken.stderr and broken.stdout == '', broken
        assert show('none', '--verify').returncode == 3


def test_show_of_what_is_not_there_exits_3(world):
    result = hearth(world, 'show', 'nothing')
    assert result.returncode == 3 and 'hearth list' in result.stderr and result.stdout == ''


def test_what_leaves_the_folders_is_refused_and_said(world, tmp_path):
    (tmp_path / 'secret.gguf').write_text('x')
    (world[0] / 'escape.gguf').symlink_to(tmp_path / 'secret.gguf')
    result = hearth(world, 'list')
    assert result.returncode == 0 and 'escape' not in result.stdout
    assert 'outside the folders' in result.stderr


def test_while_another_process_writes_the_last_record_is_shown(world):
    hearth(world, 'list')
    (world[0] / 'plain.gguf').unlink()
    with (world[1] / 'catalog.db.lock').open('r+') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = hearth(world, 'list')
    assert result.returncode == 0 and 'last recorded' in result.stderr and '\nplain ' in result.stdout
    assert '\nplain ' not in hearth(world, 'list').stdout


def test_known_models_are_listed_with_the_users_own_before_them(tmp_path):
    own = tmp_path / 'own.json'
    own.write_text(json.dumps([{'name': 'smollm2:135m', 'source': 'mine'}, {'name': 'my:1b', 'source': 'hf.co/a/b/c.gguf'}]))
    models = {m['name']: m for m in json.loads(support.run_cli('list', '--known', '--json', '--known-models', own).stdout)}
    assert models['smollm2:135m']['source'] == 'mine' and 'my:1b' in models and len(models) > 2
    own.write_text('[{"name": 1}]')
    refused = support.run_cli('list', '--known', '--known-models', own)
    assert refused.returncode == 1 and 'entry 1' in refused.stderr and refused.stdout == ''
    assert support.run_cli('list', '--known-models', own).returncode == 2


def test_a_catalog_of_a_newer_hearth_is_left_alone(world):
    import sqlite3
    hearth(world, 'list')
    path = world[1] / 'catalog.db'
    with sqlite3.connect(path) as database:
        database.execute('PRAGMA user_version=99')
    database.close()
    before = path.read_bytes()
    result = hearth(world, 'list')
    assert result.returncode == 1 and 'schema 99' in result.stderr and 'newer' in result.stderr
    assert path.read_bytes() == before
