"""A server that serves all models of its folders, gets new ones and removes them, and what survives a kill."""
import contextlib
import http.client
import json
import os
import signal
import struct
import threading
import time

import pytest
import support
from model_source import ModelSource, sha256

BIG = os.urandom(3 << 20)
GGUF = 'application/vnd.ollama.image.model'


def serve(folder, *arguments, data=None, env=None):
    environment = {'HF_ENDPOINT': '', 'HF_TOKEN': '', 'HTTPS_PROXY': '', 'https_proxy': '', 'ALL_PROXY': '', **(env or {})}
    more = ['--data-dir', str(data)] if data else []
    return support.Server('--models-dir', str(folder), *more, *arguments, models=[], env=environment)


def listed(server):
    return [entry['name'] for entry in server.request('GET', '/api/v1/models')[2]['models']]


def job(server, job_id):
    return server.request('GET', f'/api/v1/jobs/{job_id}')[2]


def pull(server, name, **fields):
    status, headers, body = server.request('POST', '/api/v1/models/pull', {'model': name, **fields})
    assert status == 202, body
    assert headers['Location'] == f'/api/v1/jobs/{body["id"]}'
    return body['id']


def ended(server, job_id):
    return support.wait_until(lambda: (lambda it: it if it['state'] in ('done', 'failed', 'cancelled') else None)(job(server, job_id)),
                              'the job to end')


def ollama(server, method, path, body):
    """(status, the answer's lines)"""
    connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=support.PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body))
        answer = connection.getresponse()
        return answer.status, [json.loads(line) for line in answer.read().splitlines() if line]


def test_every_model_in_the_folder_is_served_by_name(model, models):
    (models / 'b.gguf').write_bytes(model)
    (models / 'a:tiny.gguf').write_bytes(model)
    os.utime(models / 'a:tiny.gguf', (1e9, 1e9))  # long before the other one
    with serve(models) as server:
        assert listed(server) == ['a:tiny', 'b']
        states = {entry['id']: entry['status']['value'] for entry in server.request('GET', '/v1/models')[2]['data']}
        assert states == {'a:tiny': 'unloaded', 'b': 'unloaded'}
        assert server.complete('Once', max_tokens=2, model='B:latest')['model'] == 'b'
        assert server.complete('Once', max_tokens=2)['model'] == 'a:tiny', 'the first by name'
        status, lines = ollama(server, 'POST', '/api/generate', {'model': 'A:TINY', 'prompt': 'Once', 'options': {'num_predict': 2}})
        assert status == 200 and lines[-1]['done']
        tags = server.request('GET', '/api/tags')[2]['models']
        assert [entry['name'] for entry in tags] == ['b:latest', 'a:tiny'], 'the newest first'
        assert server.request('GET', '/api/v1/models/a:tiny')[2]['state'] == 'ready'
        status, _, body = server.request('POST', '/v1/completions', {'model': 'none', 'prompt': 'x'})
        assert status == 404 and body['error']['code'] == 'model_not_found'

        # Files that come and go under the running server.
        (models / 'new.part').write_bytes(model)
        (models / 'new.part').rename(models / 'new.gguf')
        support.wait_until(lambda: 'new' in listed(server), 'the new file to be found')
        (models / 'b.gguf').unlink()
        support.wait_until(lambda: 'b' not in listed(server), 'the file to be missed')
        support.wait_until(lambda: not any('b.gguf' in key or 'model="b"' in key for key in server.metrics()), 'its metrics to go')


def test_a_broken_file_is_listed_and_refused(models):
    (models / 'broken.gguf').write_bytes(b'GGUF' + bytes(100))
    with serve(models) as server:
        support.wait_until(lambda: listed(server) == ['broken'], 'the file to be found')
        status, _, body = server.request('POST', '/v1/completions', {'model': 'broken', 'prompt': 'x'})
        assert status == 400 and 'cannot be served' in body['error']['message']


def test_a_pull_is_a_job(model, models):
    with ModelSource({'tiny-Q4_0.gguf': model}) as hub, serve(models, env={'HF_ENDPOINT': hub.url}) as server:
        assert server.request('GET', '/api/v1/models')[2] == {'models': []}
        done = ended(server, pull(server, 'hf.co/org/repo:Q4_0'))
        assert done['state'] == 'done', done
        part = {'name': f'sha256:{sha256(model)}', 'completed': len(model), 'total': len(model), 'file': 'tiny-Q4_0.gguf', 'state': 'done'}
        assert done['progress'] == {'completed': len(model), 'total': len(model), 'text': 'success', 'parts': [part]}
        assert listed(server) == ['hf.co/org/repo:Q4_0']
        for name in ('tiny-Q4_0', 'hf.co/org/repo:Q4_0'):  # and what it was asked for by
            assert server.complete('Once', max_tokens=2, model=name)['model'] == 'tiny-Q4_0'
        failed = ended(server, pull(server, 'hf.co/org/other'))
        assert failed['state'] == 'failed' and failed['error'] and failed['error_code'] == 'not_found'
        assert [entry['state'] for entry in server.request('GET', '/api/v1/jobs')[2]['jobs']] == ['failed', 'done']
        assert server.request('POST', f'/api/v1/jobs/{failed["id"]}/pause')[0] == 400
        status, _, body = server.request('GET', '/api/v1/jobs/none')
        assert status == 404 and body['error']['code'] == 'job_not_found'
        events = server.request('GET', f'/api/v1/jobs/{failed["id"]}/events')[2]
        assert json.loads(events.strip().removeprefix('data: '))['state'] == 'failed'
        status, _, body = server.request('POST', '/api/v1/models/pull', {'model': 'x', 'source': '/etc/passwd.gguf'})
        assert status == 400 and 'its own machine' in body['error']['message']
        status, _, body = server.request('POST', '/api/v1/models/pull', {'model': 'a/../b'})
        assert (status, body['error']['param']) == (400, 'model')
        status, _, body = server.request('POST', '/api/v1/models/pull', {'model': 'a', 'source': 'b/../c'})
        assert (status, body['error']['param']) == (400, 'source')
        assert server.request('DELETE', '/api/v1/models/tiny-Q4_0')[0] == 204
        assert listed(server) == [] and [entry.name for entry in models.iterdir()] == []


def test_ollamas_clients_pull_copy_and_delete(model, models):
    with ModelSource(layers=[(GGUF, model)]) as registry, serve(models) as server:
        name = f'{registry.authority}/ns/model:tiny'
        status, lines = ollama(server, 'POST', '/api/pull', {'model': name})
        assert status == 200 and 'error' not in lines[-1], lines
        said = [line['status'] for line in lines]
        assert said[0] == 'pulling manifest' and said[-3:] == ['verifying sha256 digest', 'writing manifest', 'success']
        assert all(line['digest'] == f'sha256:{sha256(model)}' for line in lines if 'digest' in line)
        assert ollama(server, 'POST', '/api/pull', {'name': name, 'stream': False}) == (200, [{'status': 'success'}])
        tag = server.request('GET', '/api/tags')[2]['models'][0]
        assert tag['name'] == tag['model'] == name
        assert ollama(server, 'POST', '/api/copy', {'source': name, 'destination': 'mine'})[0] == 200
        assert ollama(server, 'POST', '/api/copy', {'source': name, 'destination': 'mine'})[0] == 200, 'it replaces'
        assert ollama(server, 'POST', '/api/copy', {'source': 'none', 'destination': 'x'})[0] == 404
        assert ollama(server, 'POST', '/api/generate', {'model': name, 'prompt': 'Once', 'options': {'num_predict': 2}})[0] == 200
        assert [entry['name'] for entry in server.request('GET', '/api/ps')[2]['models']] == [name]
        assert ollama(server, 'DELETE', '/api/delete', {'model': name})[0] == 200
        status, lines = ollama(server, 'DELETE', '/api/delete', {'model': name})
        assert status == 404 and lines == [{'error': f"model '{name}' not found"}]
        assert sorted(entry.name for entry in models.iterdir()) == ['mine.gguf', 'mine.hearth.json'], 'its files went'
        status, lines = ollama(server, 'POST', '/api/generate', {'model': 'mine', 'prompt': 'Once', 'options': {'num_predict': 2}})
        assert status == 200 and lines[-1]['done'], 'the copy outlives its original'
        status, lines = ollama(server, 'POST', '/api/pull', {'model': f'{registry.authority}/ns/none'})
        assert status == 200 and 'error' in lines[-1]


def test_a_pull_goes_on_after_a_kill(models, tmp_path):
    with ModelSource({'big.gguf': BIG}) as hub:
        hub.throttle = threading.Event()
        env = {'HF_ENDPOINT': hub.url}
        killed = serve(models, data=tmp_path / 'data', env=env)
        try:
            job_id = pull(killed, 'hf.co/org/repo')
            support.wait_until(lambda: job(killed, job_id)['progress']['completed'] > 0, 'some of it to be there')
        finally:
            assert killed.stop(signal.SIGKILL) == -signal.SIGKILL
        assert not (models / 'big.gguf').exists()
        hub.throttle.set()
        hub.throttle = None
        with serve(models, data=tmp_path / 'data', env=env) as server:
            done = ended(server, job_id)
            assert done['state'] == 'done', done
        assert (models / 'big.gguf').read_bytes() == BIG


def test_a_paused_pull_waits_and_a_cancelled_one_ends(models):
    with ModelSource({'big.gguf': BIG}) as hub, serve(models, env={'HF_ENDPOINT': hub.url}) as server:
        hub.throttle = threading.Event()
        job_id = pull(server, 'hf.co/org/repo')
        assert pull(server, 'hf.co/org/repo') == job_id, 'the same pull is the same job'
        support.wait_until(lambda: job(server, job_id)['progress']['completed'] > 0, 'some of it to be there')
        assert server.request('POST', f'/api/v1/jobs/{job_id}/pause')[2]['state'] == 'paused'
        hub.throttle.set()
        assert job(server, job_id)['state'] == 'paused'
        hub.throttle = None
        server.request('POST', f'/api/v1/jobs/{job_id}/resume')
        assert ended(server, job_id)['state'] == 'done'
        hub.files = {'other.gguf': BIG[::-1]}
        hub.throttle = threading.Event()
        other = pull(server, 'hf.co/org/repo')
        support.wait_until(lambda: job(server, other)['progress']['completed'] > 0, 'some of it to be there')
        assert server.request('POST', f'/api/v1/jobs/{other}/cancel')[2]['state'] == 'cancelled'
        assert not (models / 'other.gguf').exists()


def test_pulls_wait_for_their_turn_and_share_what_they_fetch(models):
    """Two names for the same bytes: one transfer, two files that are one."""
    with ModelSource(layers=[(GGUF, BIG)]) as registry:
        registry.throttle = threading.Event()
        with serve(models, '--pulls', '2') as server:
            ids = [pull(server, f'{registry.authority}/ns/model{tag}') for tag in ('', ':tiny')]
            support.wait_until(lambda: any('another pull' in part.get('note', '') for number in ids
                                           for part in job(server, number)['progress'].get('parts', [])), 'one to wait for the other')
            registry.throttle.set()
            for number in ids:
                assert ended(server, number)['state'] == 'done'
        blob = f'/v2/ns/model/blobs/sha256:{sha256(BIG)}'
        ranges = [headers.get('Range') for path, headers in registry.seen if path == blob]
        assert len(ranges) == len(set(ranges)), 'no byte was asked for twice'
        one, two = (models / f'{registry.authority}%2Fns%2Fmodel{tag}.gguf' for tag in ('', ':tiny'))
        assert one.samefile(two) and one.read_bytes() == BIG


def test_no_more_pulls_run_at_once_than_allowed(models):
    with ModelSource({f'm{number}-Q4_0.gguf': BIG for number in range(3)}) as hub:
        hub.throttle = threading.Event()
        with serve(models, '--pulls', '1', env={'HF_ENDPOINT': hub.url}) as server:
            ids = [pull(server, f'hf.co/org/repo:m{number}-Q4_0.gguf') for number in range(3)]
            support.wait_until(lambda: job(server, ids[0])['progress']['completed'] > 0, 'the first to begin')
            assert [job(server, number)['state'] for number in ids] == ['running', 'queued', 'queued']
            hub.throttle.set()
            for number in ids:
                assert ended(server, number)['state'] == 'done'


def test_a_pull_can_be_slowed_down(models):
    with ModelSource({'big.gguf': BIG}) as hub, serve(models, '--limit-rate', '8MiB', env={'HF_ENDPOINT': hub.url}) as server:
        began = time.monotonic()
        slow = ended(server, pull(server, 'hf.co/org/repo', limit_rate=1 << 20))
        assert slow['state'] == 'done' and time.monotonic() - began > 1.5, '3 MiB at 1 MiB a second'
        status, _, body = server.request('POST', '/api/v1/models/pull', {'model': 'hf.co/org/repo', 'limit_rate': 0})
        assert status == 400 and body['error']['param'] == 'limit_rate'


def test_what_nobody_goes_on_with_is_swept_at_the_start(models):
    old = time.time() - 3 * 86400
    for name in ('gone.gguf.partial', 'gone.gguf.partial.state', 'gone.hearth.json.new', 'new.gguf.partial'):
        (models / name).write_bytes(b'x')
        if not name.startswith('new'):
            os.utime(models / name, (old, old))
    with serve(models):
        assert [entry.name for entry in models.iterdir()] == ['new.gguf.partial']


def with_template(model, text):
    """The GGUF file with one more entry, of a length that keeps its tensors aligned."""
    key = b'tokenizer.chat_template'
    text = text.encode()
    text += b' ' * (-(20 + len(key) + len(text)) % 32)
    entry = struct.pack('<Q', len(key)) + key + struct.pack('<IQ', 8, len(text)) + text
    entries = struct.unpack_from('<Q', model, 16)[0]
    return model[:16] + struct.pack('<Q', entries + 1) + entry + model[24:]


def test_another_template_needs_trust(model, models):
    (models / 'tiny.gguf').write_bytes(with_template(model, 'first'))
    with serve(models) as server:
        assert server.complete('Once', max_tokens=1, model='tiny')
        (models / 'new').write_bytes(with_template(model, 'another, longer one, which is trusted by nobody yet'))
        (models / 'new').rename(models / 'tiny.gguf')
        support.wait_until(lambda: server.request('GET', '/api/v1/models/tiny')[2]['template_changed'], 'the change to be noticed')
        status, _, body = server.request('POST', '/v1/completions', {'model': 'tiny', 'prompt': 'x', 'max_tokens': 1})
        assert status == 403 and body['error']['code'] == 'template_changed'
        assert server.request('POST', '/api/v1/models/trust', {'model': 'tiny'})[0] == 204
        assert server.complete('Once', max_tokens=1, model='tiny')


def test_patterns_say_what_may_be_had(model, models):
    (models / 'yes.gguf').write_bytes(model)
    (models / 'no.gguf').write_bytes(model)
    with serve(models, '--allow-model', 'Y*') as server:
        assert listed(server) == ['yes']
        assert server.request('POST', '/v1/completions', {'model': 'no', 'prompt': 'x'})[0] == 404
        status, _, body = server.request('POST', '/api/v1/models/pull', {'model': 'hf.co/org/repo'})
        assert status == 403 and body['error']['code'] == 'forbidden' and '--allow-model' in body['error']['message']


def test_beyond_this_machine_nothing_is_pulled_without_patterns(model, models):
    (models / 'tiny.gguf').write_bytes(model)
    with serve(models, '--host', '0.0.0.0', '--allow-unauthenticated') as server:
        assert server.complete('Once', max_tokens=2, model='tiny')
        for method, path, body in (('POST', '/api/v1/models/pull', {'model': 'hf.co/org/repo'}), ('DELETE', '/api/v1/models/tiny', None)):
            status, _, answer = server.request(method, path, body)
            assert status == 403 and '--allow-model' in answer['error']['message']
    assert (models / 'tiny.gguf').exists()


def test_two_servers_share_a_folder(model, models, tmp_path):
    (models / 'tiny.gguf').write_bytes(model)
    with serve(models, data=tmp_path / 'data') as first, serve(models, data=tmp_path / 'data') as second:
        for server in (first, second):
            assert server.complete('Once', max_tokens=2, model='tiny')
        status, _, body = second.request('POST', '/api/v1/models/pull', {'model': 'hf.co/org/repo'})
        assert status == 503 and body['error']['code'] == 'no_library'
        assert second.request('DELETE', '/api/v1/models/tiny')[0] == 503
        assert 'another process keeps the catalog' in second.log_text()
        assert first.request('DELETE', '/api/v1/models/tiny')[0] == 204


def test_what_was_named_is_the_default_and_stays(model, models):
    (models / 'a.gguf').write_bytes(model)
    (models / 'z.gguf').write_bytes(model)
    with support.Server('--models-dir', str(models), models=['z']) as server:
        assert listed(server) == ['z', 'a']
        assert server.complete('Once', max_tokens=2)['model'] == 'z'
        status, _, body = server.request('DELETE', '/v1/models/z')
        assert status == 403 and '--model' in body['error']['message']
        assert server.request('DELETE', '/v1/models/a')[2] == {'id': 'a', 'object': 'model', 'deleted': True}


def cli(server, *arguments, **more):
    environment = {**os.environ, 'HEARTH_HOST': '127.0.0.1', 'HEARTH_PORT': str(server.port)}
    return support.run_cli(*arguments, environment={**environment, **more})


def test_commands_ask_the_server_that_runs(model, models):
    with ModelSource({'tiny-Q4_0.gguf': model}) as hub, serve(models, env={'HF_ENDPOINT': hub.url}) as server:
        pulled = cli(server, 'pull', 'hf.co/org/repo')
        assert pulled.returncode == 0 and pulled.stdout == 'hf.co/org/repo is there\n', pulled.stderr
        assert 'tiny-Q4_0.gguf: done, ' in pulled.stderr, 'each file is told of, as of a pull without a server'
        assert json.loads(cli(server, 'pull', 'small', '--source', 'hf.co/org/repo', '--json').stdout)['state'] == 'done'
        table = cli(server, 'list')
        assert table.returncode == 0 and [line.split()[0] for line in table.stdout.splitlines()] == ['NAME', 'hf.co/org/repo', 'small']
        assert [entry['name'] for entry in json.loads(cli(server, 'list', '--json').stdout)] == ['hf.co/org/repo', 'small']
        failed = cli(server, 'pull', 'hf.co/org/none')
        assert failed.returncode == 3 and 'no such repository' in failed.stderr
        unreachable = cli(server, 'pull', '127.0.0.1:1/ns/model')
        assert unreachable.returncode == 4 and unreachable.stderr
        copied = cli(server, 'cp', 'small', 'copy', '--json')
        assert copied.returncode == 0 and json.loads(copied.stdout) == {'model': 'small', 'copy': 'copy'}
        trusted = cli(server, 'trust', 'copy', '--json')
        assert trusted.returncode == 0 and json.loads(trusted.stdout) == {'model': 'copy', 'trusted': True}
        assert server.complete('Once', max_tokens=1, model='hf.co/org/repo')
        assert [line.split()[0] for line in cli(server, 'ps').stdout.splitlines()] == ['NAME', 'hf.co/org/repo']
        stopped = cli(server, 'stop', 'hf.co/org/repo', '--json')
        assert stopped.returncode == 0 and json.loads(stopped.stdout)['state'] == 'cold'
        assert cli(server, 'rm', 'small').returncode == 0
        gone = cli(server, 'rm', 'small')
        assert gone.returncode == 3 and 'small' in gone.stderr
        assert sorted(listed(server)) == ['copy', 'hf.co/org/repo']
        assert cli(server, 'rm', 'hf.co/org/repo').returncode == 0
        assert listed(server) == ['copy'] and not (models / 'tiny-Q4_0.gguf').exists()
        refused = cli(server, 'pull', 'hf.co/org/repo', '--host', f'127.0.0.1:{server.port}', '--models-dir', models)
        assert refused.returncode == 2 and '--host' in refused.stderr


def test_without_a_server_commands_do_it_themselves(model, models, tmp_path):
    (models / 'tiny.gguf').write_bytes(model)
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'HEARTH_MODELS_DIR': ''}

    def here(*arguments):
        return support.run_cli(*arguments, '--models-dir', models, '--data-dir', tmp_path / 'data', environment=environment)

    assert here('cp', 'tiny', 'mine').returncode == 0
    assert here('trust', 'mine').returncode == 0
    assert here('rm', 'TINY').returncode == 0
    assert here('rm', 'tiny').returncode == 3
    assert [entry['name'] for entry in json.loads(here('list', '--json').stdout)] == ['mine']
    nobody = support.run_cli('list', '--host', '127.0.0.1:1')
    assert nobody.returncode == 4 and 'no Hearth server answers' in nobody.stderr


def test_run_pulls_what_is_not_there(model, models, tmp_path):
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path / 'cache'), 'HEARTH_MODELS_DIR': '', 'HTTPS_PROXY': '', 'ALL_PROXY': '',
                   'HEARTH_DATA_DIR': str(tmp_path / 'data')}
    with ModelSource({'tiny-Q4_0.gguf': model}) as hub:
        environment['HF_ENDPOINT'] = hub.url

        def run(name):
            return support.run_cli('run', name, 'Once', '--raw', '-n', '2', '--models-dir', models, environment=environment)

        answer = run('hf.co/org/repo:Q4_0')
        assert answer.returncode == 0 and answer.stdout, answer.stderr
        assert 'is not here yet; pulling hf.co/org/repo:Q4_0' in answer.stderr
        assert run('tiny-Q4_0').returncode == 0
        seen = len(hub.seen)
        again = run('hf.co/org/repo:Q4_0')
        assert again.returncode == 0 and 'pulling' not in again.stderr, 'the name is remembered'
        for unsaid in ('org/other', 'other'):  # no host: a mistyped path asks nobody
            missing = run(unsaid)
            assert missing.returncode == 3 and unsaid in missing.stderr
        assert len(hub.seen) == seen
