"""Two servers on one models folder, each with a data folder of its own: what they do at once is as if one after the other."""
import json
import os
import signal
import threading

import support
from model_source import ModelSource, sha256

BIG = os.urandom(3 << 20)


def serve(folder, tmp_path, name, *arguments, env=None):
    environment = {'HF_ENDPOINT': '', 'HF_TOKEN': '', 'HTTPS_PROXY': '', 'https_proxy': '', 'ALL_PROXY': '', **(env or {})}
    return support.Server('--models-dir', str(folder), '--data-dir', str(tmp_path / name), *arguments, models=[], env=environment)


def pull(server, name):
    status, _, body = server.request('POST', '/api/v1/models/pull', {'model': name})
    assert status == 202, body
    return body['id']


def ended(server, job_id):
    def over():
        job = server.request('GET', f'/api/v1/jobs/{job_id}')[2]
        return job if job['state'] in ('done', 'failed', 'cancelled') else None
    return support.wait_until(over, 'the job to end')


def both(act, servers):
    """What `act` gives for each, done at once."""
    given = [None] * len(servers)

    def do(i):
        given[i] = act(servers[i], i)
    threads = [threading.Thread(target=do, args=(i,)) for i in range(len(servers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return given


def leftovers(folder):
    return [entry.name for entry in folder.iterdir() if not entry.name.endswith(('.gguf', '.hearth.json'))]


def test_one_model_that_both_pull_at_once_is_whole_and_served_by_both(model, models, tmp_path):
    with ModelSource({'tiny-Q4_0.gguf': model}) as hub:
        hub.throttle = threading.Event()
        env = {'HF_ENDPOINT': hub.url}
        with serve(models, tmp_path, 'one', env=env) as one, serve(models, tmp_path, 'two', env=env) as two:
            jobs = [pull(server, 'hf.co/org/repo') for server in (one, two)]
            hub.throttle.set()
            for server, job in zip((one, two), jobs):
                done = ended(server, job)
                assert done['state'] == 'done', done['error']
            assert (models / 'tiny-Q4_0.gguf').read_bytes() == model and leftovers(models) == []
            for server in (one, two):
                assert server.complete('Once', max_tokens=2, model='tiny-Q4_0')


def test_a_pull_that_one_was_killed_in_is_finished_by_the_other(models, tmp_path):
    with ModelSource({'big.gguf': BIG}) as hub:
        hub.throttle = threading.Event()
        env = {'HF_ENDPOINT': hub.url}
        with serve(models, tmp_path, 'two', env=env) as two:
            one = serve(models, tmp_path, 'one', env=env)
            try:
                job = pull(one, 'hf.co/org/repo')
                address = f'/api/v1/jobs/{job}'
                support.wait_until(lambda: one.request('GET', address)[2]['progress']['completed'] > 0, 'some of it to be there')
                other = pull(two, 'hf.co/org/repo')
            finally:
                assert one.stop(signal.SIGKILL) == -signal.SIGKILL
            hub.throttle.set()
            done = ended(two, other)
            assert done['state'] == 'done', done['error']
        assert sha256((models / 'big.gguf').read_bytes()) == sha256(BIG) and leftovers(models) == []


def test_models_that_both_create_under_one_name_are_never_mixed(model, models, tmp_path):
    bases = ['a', 'b']
    for base in bases:
        (models / f'{base}.gguf').write_bytes(model)
    inodes = {base: (models / f'{base}.gguf').stat().st_ino for base in bases}
    with serve(models, tmp_path, 'one') as one, serve(models, tmp_path, 'two') as two:
        def create(server, i):
            wish = {'model': 'mine', 'from': bases[i], 'system': f'of {bases[i]}', 'stream': False}
            status, _, body = server.request('POST', '/api/create', wish)
            return status, body
        for _ in range(25):
            outcomes = both(create, [one, two])
            assert [status for status, _ in outcomes] == [200, 200], outcomes
            note = json.loads((models / 'mine.hearth.json').read_text())
            assert note['system'] == f'of {note["from"]}' and (models / 'mine.gguf').stat().st_ino == inodes[note['from']], note
        assert leftovers(models) == []


def test_what_one_deletes_the_other_finishes_with(model, models, tmp_path):
    (models / 'tiny.gguf').write_bytes(model)
    with serve(models, tmp_path, 'one') as one, serve(models, tmp_path, 'two') as two:
        stream = two.open_stream('/v1/completions', {'model': 'tiny', 'prompt': 'Once', 'max_tokens': 4000, 'ignore_eos': True,
                                                     'context_overflow': 'shift'})
        events = support.events(stream)
        next(events)
        assert one.request('DELETE', '/api/v1/models/tiny')[0] == 204
        assert len(two.request('GET', '/api/v1/requests')[2]['requests']) == 1, 'it goes on'
        rest = list(events)
        assert rest[-1] == '[DONE]' and not any('"error"' in event for event in rest)
        missing = lambda: two.request('POST', '/v1/completions', {'model': 'tiny', 'prompt': 'x', 'max_tokens': 1})[0] == 404  # noqa: E731
        support.wait_until(missing, 'the other one to miss it')
        assert list(models.iterdir()) == []


def test_copies_and_deletions_at_once_leave_whole_models(model, models, tmp_path):
    (models / 'tiny.gguf').write_bytes(model)
    with serve(models, tmp_path, 'one') as one, serve(models, tmp_path, 'two') as two:
        def churn(server, i):
            seen = set()
            for _ in range(20):
                seen.add(server.request('POST', '/api/v1/models/copy', {'source': 'tiny', 'destination': 'copy'})[0])
                seen.add(server.request('DELETE', '/api/v1/models/copy')[0])
            return seen
        # 404: the other one has deleted it already, or this one has not seen it yet.
        assert set().union(*both(churn, [one, two])) <= {204, 404}
        assert (models / 'tiny.gguf').read_bytes() == model and leftovers(models) == []
        for server in (one, two):
            assert server.complete('Once', max_tokens=2, model='tiny')


def test_a_damaged_model_that_both_restore_is_whole(model, models, tmp_path):
    with ModelSource({'tiny-Q4_0.gguf': model}) as hub:
        env = {'HF_ENDPOINT': hub.url}
        with serve(models, tmp_path, 'one', env=env) as one, serve(models, tmp_path, 'two', env=env) as two:
            assert ended(one, pull(one, 'hf.co/org/repo'))['state'] == 'done'
            for server in (one, two):
                support.wait_until(lambda server=server: server.request('GET', '/api/v1/models/tiny-Q4_0')[0] == 200, 'it to be found')
            damaged = bytearray(model)
            damaged[len(model) // 2] ^= 1
            (models / 'new').write_bytes(damaged)
            (models / 'new').rename(models / 'tiny-Q4_0.gguf')

            def whole(server):
                return server.request('GET', '/api/v1/models/tiny-Q4_0')[2].get('state') != 'damaged'
            support.wait_until(lambda: (models / 'tiny-Q4_0.gguf').read_bytes() == model, 'it to be restored')
            for server in (one, two):
                support.wait_until(lambda server=server: whole(server), 'it to be whole again')
                support.wait_until(lambda server=server: server.request(
                    'POST', '/v1/completions', {'model': 'tiny-Q4_0', 'prompt': 'x', 'max_tokens': 1})[0] == 200, 'it to be served')
            assert (models / 'tiny-Q4_0.gguf.damaged').read_bytes() == damaged
