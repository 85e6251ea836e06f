"""An engine process that dies or hangs: its streams end within a second, the rest of the server does not notice."""
import json
import os
import signal
import threading
import time

import pytest
import support


def fill(server, model, count, results):
    """`count` long streams on `model` (empty: the only one); each appends (seconds since the fault, last event) when it ends."""
    def one():
        which = {'model': model} if model else {}
        stream = server.open_stream('/v1/completions', {**which, 'prompt': 'Once upon a time', 'max_tokens': 100000,
                                                        'ignore_eos': True, 'temperature': 1})
        last = None
        for data in support.events(stream):
            last = data
            results['tokens'] += 1
        results['ended'].append((time.monotonic(), last))
        stream.close()
    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize('fault', [signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP], ids=lambda s: s.name)
def test_streams_of_a_lost_worker_end_with_a_typed_error_and_it_comes_back(smollm2_path, stories_path, fault):
    models = [f'big={smollm2_path}', f'small={stories_path}']
    with support.Server('--max-seqs', '4', models=models) as server:
        results = {'tokens': 0, 'ended': []}
        threads = fill(server, 'big', 4, results)
        support.wait_until(lambda: results['tokens'] > 12, 'all streams run')
        lost, other = server.worker_of(smollm2_path), server.worker_of(stories_path)
        struck = time.monotonic()
        os.kill(lost, fault)
        for thread in threads:
            thread.join(support.PATIENCE_S)
        assert len(results['ended']) == 4
        for at, last in results['ended']:
            error = json.loads(last)['error']
            assert error['code'] == 'engine_lost', error
            # One second for the server; the slack is the test's own threads on a busy machine.
            assert at - struck < 3, f'the stream ended {at - struck:.2f} s after the fault'
        assert server.worker_of(stories_path) == other, 'the other model was touched'
        assert server.complete('Once', model='small', max_tokens=3)['usage']['completion_tokens'] == 3
        assert server.complete('Hello', model='big', max_tokens=3)['usage']['completion_tokens'] >= 1  # waits for the restart
        assert server.worker_of(smollm2_path) != lost
        assert server.metric('hearth_worker_restarts_total') == 1


def test_requests_that_have_not_started_are_replayed(smollm2_path):
    with support.Server('--max-seqs', '1', '--ctx', '4096', models=[smollm2_path]) as server:
        results = {'tokens': 0, 'ended': []}
        running = fill(server, '', 1, results)
        support.wait_until(lambda: results['tokens'] > 2, 'the first stream runs')
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(server.complete('Hello', max_tokens=4, temperature=0)))
        waiting.start()
        support.wait_until(lambda: server.metric('hearth_requests_waiting') == 1, 'the second request waits')
        os.kill(server.workers()[0], signal.SIGKILL)
        waiting.join(support.PATIENCE_S)
        running[0].join(support.PATIENCE_S)
        assert answers and answers[0]['usage']['completion_tokens'] >= 1


def test_a_worker_that_cannot_load_is_said_so_and_does_not_loop(tmp_path):
    bad = tmp_path / 'bad.gguf'
    bad.write_bytes(b'GGUF' + b'\0' * 100)
    result = support.run_cli('serve', '--port', '0', '--model', bad)
    assert result.returncode == 1
    assert 'bad.gguf' in result.stderr and 'hearth check' in result.stderr


def test_a_model_that_cannot_load_does_not_stop_the_others(smollm2_path, stories_path):
    # More context than the small one was trained on.
    with support.Server('--ctx', '1024', models=[f'big={smollm2_path}', f'small={stories_path}']) as server:
        assert server.complete('Once', model='big', max_tokens=3)['usage']['completion_tokens'] >= 1
        status, _, body = server.request('POST', '/v1/completions', {'model': 'small', 'prompt': 'Once'})
        assert status == 503, body
        assert 'small: context_request 1024 is more than the 128 tokens' in server.log_text()


def test_workers_die_with_a_killed_front(stories_path):
    server = support.Server(models=[stories_path])
    workers = server.workers()
    assert len(workers) == 1
    server.process.kill()
    server.process.wait()
    support.wait_until(lambda: not support.alive(workers[0]), 'the worker is gone')
    server.process.stdout.close()
