"""Models that hold other bytes than they should, under a server that runs: not served, said, and fetched again."""
import json
import os
import signal
import threading

import pytest
import support
from model_source import ModelSource, sha256
from test_library import GGUF, cli, ended, job, ollama, pull, serve

NAME = 'tiny-Q4_0'
PULLED = 'hf.co/org/repo:Q4_0'  # and so it is listed


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]


def flip(path):
    """One bit, in place, as a failing disk or a stray write would."""
    with open(path, 'r+b') as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def replace(path, data):
    new = path.with_name('new')
    new.write_bytes(data)
    new.rename(path)


def state(server, name=NAME):
    return server.request('GET', f'/api/v1/models/{name}')[2]['state']


def until(server, wanted, name=NAME):
    support.wait_until(lambda: state(server, name) == wanted, f'{name} to be {wanted}')


def until_served(server, name=NAME):
    def answer():
        return server.request('POST', '/v1/completions', {'prompt': 'Once', 'max_tokens': 2, 'model': name})[0] == 200
    support.wait_until(answer, f'{name} to be served')


def jobs(server, query=''):
    return server.request('GET', f'/api/v1/jobs{query}')[2]['jobs']


def restores(server):
    return jobs(server, '?kind=restore')


@pytest.fixture
def hub(model):  # noqa: F811
    with ModelSource({f'{NAME}.gguf': model}) as source:
        yield source


def pulled(hub, models, data=None):  # noqa: F811
    server = serve(models, data=data, env={'HF_ENDPOINT': hub.url})
    assert ended(server, pull(server, PULLED))['state'] == 'done'
    assert server.complete('Once', max_tokens=2, model=NAME)['model'] == NAME
    return server


def test_a_flipped_bit_is_found_said_and_mended_while_the_server_runs(hub, model, models):  # noqa: F811
    path = models / f'{NAME}.gguf'
    with pulled(hub, models) as server:
        assert state(server) == 'ready' and jobs(server, '?kind=verify') == [], 'the pull has read it'
        hub.throttle = threading.Event()  # mending takes as long as we like
        flip(path)
        until(server, 'damaged')

        messages = [{'role': 'user', 'content': 'x'}]
        status, headers, body = server.request('POST', '/v1/chat/completions', {'model': NAME, 'messages': messages})
        assert (status, body['error']['code']) == (503, 'model_damaged') and headers['Retry-After']
        message = body['error']['message']
        assert sha256(model) in message and 'hf.co/org/repo' in message and str(models) not in message
        for call, ask in (('generate', {'prompt': 'x'}), ('chat', {'messages': messages}), ('embed', {'input': 'x'})):
            status, lines = ollama(server, 'POST', f'/api/{call}', {'model': NAME, **ask})
            assert status == 503 and 'is damaged' in lines[0]['error'], call
        assert server.request('POST', f'/api/v1/models/{NAME}/load')[2]['error']['code'] == 'model_damaged'

        health = server.request('GET', '/health')[2]
        assert health['status'] == 'degraded' and [entry['id'] for entry in health['damaged']] == [NAME]
        assert server.request('GET', '/readyz')[0] == 200, 'other models could be asked'
        listed = {entry['id']: entry['status'] for entry in server.request('GET', '/v1/models')[2]['data']}
        assert listed[PULLED]['value'] == 'failed' and sha256(model) in listed[PULLED]['problem']
        assert server.metrics()['hearth_models_damaged'] == 1
        assert 'model is damaged' in server.log_text()
        table = cli(server, 'list')
        assert 'damaged' in table.stdout, table
        [mending] = restores(server)
        assert mending['model'] == NAME and mending['state'] in ('queued', 'running')

        hub.throttle.set()
        hub.throttle = None
        assert ended(server, mending['id'])['state'] == 'done'
        until_served(server)
        assert path.read_bytes() == model
        assert (models / f'{NAME}.gguf.damaged').read_bytes() == flipped(model), 'whoever wants it finds it beside'
        assert server.metrics()['hearth_models_damaged'] == 0
        assert server.request('GET', '/health')[2]['damaged'] == []
        assert server.request('DELETE', f'/api/v1/models/{NAME}')[0] == 204
        assert list(models.iterdir()) == []


def test_of_several_quantisations_the_one_that_was_pulled_comes_again(hub, model, models):  # noqa: F811
    hub.files['tiny-Q4_K_M.gguf'] = flipped(model)  # what the hub gives to those who choose nothing
    path = models / f'{NAME}.gguf'
    with pulled(hub, models) as server:
        os.truncate(path, len(model) // 2)
        support.wait_until(lambda: restores(server), 'it to be fetched again')
        assert ended(server, restores(server)[0]['id'])['state'] == 'done'
        until_served(server)
        assert path.read_bytes() == model


def test_a_truncated_file_is_damaged_and_mended(hub, model, models):  # noqa: F811
    path = models / f'{NAME}.gguf'
    with pulled(hub, models) as server:
        os.truncate(path, len(model) // 2)
        support.wait_until(lambda: restores(server), 'it to be fetched again')
        assert ended(server, restores(server)[0]['id'])['state'] == 'done'
        until_served(server)
        assert path.read_bytes() == model


def test_a_kill_while_it_is_mended_leaves_the_old_file_and_is_gone_on_from(hub, model, models, tmp_path):  # noqa: F811
    path = models / f'{NAME}.gguf'
    killed = pulled(hub, models, data=tmp_path / 'data')
    try:
        hub.throttle = threading.Event()
        flip(path)
        support.wait_until(lambda: [entry for entry in restores(killed) if entry['progress']['completed'] > 0], 'some of it to be there')
    finally:
        assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
    assert path.read_bytes() == flipped(model), 'whole or absent, never half'
    hub.throttle.set()
    hub.throttle = None
    with serve(models, data=tmp_path / 'data', env={'HF_ENDPOINT': hub.url}) as server:
        [mending] = restores(server)
        assert ended(server, mending['id'])['state'] == 'done'
        until_served(server)
    assert path.read_bytes() == model


def test_what_changed_while_no_server_ran_is_found_at_the_start(hub, model, models, tmp_path):  # noqa: F811
    with pulled(hub, models, data=tmp_path / 'data'):
        pass
    flip(models / f'{NAME}.gguf')
    with serve(models, data=tmp_path / 'data', env={'HF_ENDPOINT': hub.url}) as server:
        support.wait_until(lambda: restores(server), 'it to be fetched again')
        until_served(server)
    assert (models / f'{NAME}.gguf').read_bytes() == model


def test_it_comes_back_from_a_registry_too(model, models):  # noqa: F811
    with ModelSource(layers=[(GGUF, model)]) as registry, serve(models) as server:
        assert ended(server, pull(server, f'{registry.authority}/ns/model:tiny'))['state'] == 'done'
        [path] = models.glob('*.gguf')
        name = path.name.removesuffix('.gguf').replace('%2F', '/')
        assert server.complete('Once', max_tokens=2, model=name)
        replace(path, flipped(model))
        support.wait_until(lambda: restores(server), 'it to be fetched again')
        until_served(server, name)
        assert path.read_bytes() == model


def test_what_its_source_does_not_have_any_more_stays_damaged_until_somebody_decides(hub, model, models):  # noqa: F811
    newer = flipped(flipped(model)[:-1] + b'!')
    with pulled(hub, models) as server:
        hub.files[f'{NAME}.gguf'] = newer
        flip(models / f'{NAME}.gguf')
        support.wait_until(lambda: restores(server), 'it to be fetched again')
        failed = ended(server, restores(server)[0]['id'])
        assert failed['state'] == 'failed' and 'another version' in failed['error']
        assert state(server) == 'damaged'
        # One decision: the newer one.
        assert ended(server, pull(server, 'hf.co/org/repo:Q4_0'))['state'] == 'done'
        until_served(server)
        assert (models / f'{NAME}.gguf').read_bytes() == newer
        # Another one: the file is mine now.
        hub.throttle = threading.Event()
        replace(models / f'{NAME}.gguf', model)
        until(server, 'damaged')
        support.wait_until(lambda: len(restores(server)) == 2, 'it to be fetched again')
        server.request('POST', f'/api/v1/jobs/{restores(server)[0]["id"]}/cancel')
        hub.throttle.set()
        (models / f'{NAME}.hearth.json').unlink()
        until_served(server)
        assert server.request('GET', f'/api/v1/models/{NAME}')[2]['source'] == ''


def test_a_file_without_a_record_is_a_new_version_when_it_is_replaced(model, models):  # noqa: F811
    path = models / 'mine.gguf'
    path.write_bytes(model)
    with serve(models) as server:
        assert server.complete('Once', max_tokens=2, model='mine')
        support.wait_until(lambda: server.request('GET', '/api/v1/models/mine')[2]['digest'] == f'sha256:{sha256(model)}', 'it to be read')
        replace(path, model[:-1] + bytes([model[-1] ^ 1]))
        support.wait_until(lambda: server.request('GET', '/api/v1/models/mine')[2]['digest'] != f'sha256:{sha256(model)}', 'the change')
        assert server.complete('Once', max_tokens=2, model='mine')
        assert server.request('GET', '/health')[2]['damaged'] == []

        # Bytes that rot, though nothing was written as far as the file system tells.
        status, headers, asked = server.request('POST', '/api/v1/models/mine/verify')
        assert status == 202 and headers['Location'] == f'/api/v1/jobs/{asked["id"]}' and asked['kind'] == 'verify'
        assert ended(server, asked['id'])['state'] == 'done'
        before = path.stat()
        flip(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        failed = ended(server, server.request('POST', '/api/v1/models/mine/verify')[2]['id'])
        assert failed['state'] == 'failed' and 'SHA-256' in failed['error']
        until(server, 'damaged', 'mine')
        status, _, body = server.request('POST', '/v1/completions', {'model': 'mine', 'prompt': 'x'})
        assert status == 503 and 'put the right file there' in body['error']['message']
        assert restores(server) == []
        flip(path)  # the right one
        until_served(server, 'mine')
        assert server.request('POST', '/api/v1/models/none/verify')[0] == 404


def test_jobs_come_in_pages_and_by_what_they_are(hub, models):  # noqa: F811
    with serve(models, env={'HF_ENDPOINT': hub.url}) as server:
        ids = [pull(server, f'hf.co/org/none{number}') for number in range(3)]
        ids.append(pull(server, 'hf.co/org/repo'))
        assert [ended(server, each)['state'] for each in ids] == ['failed'] * 3 + ['done']
        page = server.request('GET', '/api/v1/jobs?limit=3')[2]
        assert [entry['id'] for entry in page['jobs']] == ids[:0:-1]
        rest = server.request('GET', f'/api/v1/jobs?limit=3&before={page["next"]}')[2]
        assert [entry['id'] for entry in rest['jobs']] == ids[:1] and rest['next'] is None
        assert [entry['id'] for entry in jobs(server, '?state=done&kind=pull')] == ids[3:]
        assert jobs(server, '?kind=restore') == []
        for query in ('state=odd', 'kind=odd', 'limit=0', 'limit=1001', 'before=x'):
            status, _, body = server.request('GET', f'/api/v1/jobs?{query}')
            assert (status, body['error']['param']) == (400, query.split('=')[0]), json.dumps(body)


def test_models_of_the_folder_are_preloaded_pinned_and_moved(model, models, tmp_path):  # noqa: F811
    (models / 'a.gguf').write_bytes(model)
    (models / 'b.gguf').write_bytes(model)
    with serve(models, '--preload', 'a', '--pin', 'B', data=tmp_path / 'data') as server:
        assert state(server, 'a') == 'ready', 'when the server says it is ready'
        for _ in range(3):
            server.complete('Once', max_tokens=1, model='b')
        entries = {entry['id']: entry for entry in server.request('GET', '/api/v1/residency')[2]['models']}
        assert entries['b']['pinned'] and not entries['a']['pinned']
        assert server.request('POST', '/api/v1/models/a/swap', {'model': 'b'})[0] == 200
        # What was used since the last look into the folders is written down at the end.
    with serve(models, '--preload', 'most-used:1', data=tmp_path / 'data') as server:
        until(server, 'ready', 'b')
        assert state(server, 'a') == 'cold'
        server.complete('Once', max_tokens=1, model='a')
        assert server.request('POST', '/api/v1/models/a/swap', {'model': 'a'})[0] == 200
    with pytest.raises(AssertionError, match='no model of that name'):
        serve(models, '--preload', 'none', data=tmp_path / 'data')


def test_a_name_that_was_given_stays_moved_after_a_restart(model, models, tmp_path):  # noqa: F811
    (models / 'a.gguf').write_bytes(model)
    (models / 'b.gguf').write_bytes(flipped(model))
    data = ['--models-dir', str(models), '--data-dir', str(tmp_path / 'data')]

    def digest(server):
        tags = server.request('GET', '/api/tags')[2]['models']
        return {entry['name']: entry['digest'] for entry in tags}['chat:latest']
    with support.Server(*data, models=['chat=a']) as server:
        support.wait_until(lambda: digest(server) == sha256(model), 'its digest')
        assert server.request('POST', '/api/v1/models/chat/swap', {'model': 'b'})[0] == 200
    with support.Server(*data, models=['chat=a']) as server:
        support.wait_until(lambda: digest(server) == sha256(flipped(model)), 'the digest of the other file')
        assert server.complete('Once', max_tokens=1, model='chat')
    with support.Server(*data, models=['chat=b']) as server:
        support.wait_until(lambda: digest(server) == sha256(flipped(model)), 'the digest of what is named')
