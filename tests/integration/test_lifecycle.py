"""Start, stop, and what a user gets wrong."""
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
import support


def test_sigterm_finishes_what_runs_and_refuses_what_comes(smollm2_path):
    server = support.Server('--grace', '60', models=[smollm2_path])
    stream = server.open_stream('/v1/chat/completions', {'messages': [{'role': 'user', 'content': 'Tell me a story.'}], 'max_tokens': 60,
                                                         'ignore_eos': True})
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(support.events(stream)))
    reader.start()
    support.wait_until(lambda: len(seen) > 3, 'the stream runs')
    server.process.send_signal(signal.SIGTERM)
    reader.join(support.PATIENCE_S)
    assert seen[-1] == '[DONE]'
    assert server.process.wait(support.PATIENCE_S) == 0
    server.process.stdout.close()


def test_a_second_signal_exits_at_once(smollm2_path):
    server = support.Server('--grace', '600', models=[smollm2_path])
    stream = server.open_stream('/v1/completions', {'prompt': 'a', 'max_tokens': 4000, 'ignore_eos': True})
    stream.recv(100)
    server.process.send_signal(signal.SIGINT)
    support.wait_until(lambda: 'stopping' in server.log_text(), 'the first signal is taken')
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 130
    server.process.stdout.close()


def test_grace_time_is_a_limit(smollm2_path):
    server = support.Server('--grace', '0.2', models=[smollm2_path])
    stream = server.open_stream('/v1/completions', {'prompt': 'a', 'max_tokens': 4000, 'ignore_eos': True})
    stream.recv(100)
    assert server.stop() == 0


def test_a_taken_port_names_the_way_out(stories_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        result = support.run_cli('serve', '--model', stories_path, '--port', port)
    assert result.returncode == 1
    assert str(port) in result.stderr and '--port' in result.stderr


def test_a_name_is_not_served_in_part_while_another_program_answers_for_the_rest(stories_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        result = support.run_cli('serve', '--model', stories_path, '--host', 'localhost', '--port', taken.getsockname()[1])
    assert result.returncode == 1 and 'another program uses this port' in result.stderr


def test_listening_beyond_loopback_needs_a_decision(stories_path):
    result = support.run_cli('serve', '--model', stories_path, '--host', '0.0.0.0')
    assert result.returncode == 2
    assert '--allow-unauthenticated' in result.stderr


def test_the_front_maps_no_weights_and_the_worker_is_confined(stories):
    front = open(f'/proc/{stories.process.pid}/maps').read()
    assert 'stories260K' not in front
    status = open(f'/proc/{stories.workers()[0]}/status').read()
    assert 'NoNewPrivs:\t1' in status
    _, _, health = stories.request('GET', '/health')
    assert health['status'] == 'ok'
    assert 'no_new_privs' in str(health), 'health says what confines the engine'


def test_a_full_disk_under_the_log_does_not_stop_the_server(stories_path):
    with support.Server('--log-file', '/dev/full', models=[stories_path]) as server:
        for _ in range(20):
            assert server.complete('Once', max_tokens=3)['usage']['completion_tokens'] == 3
        _, _, metrics = server.request('GET', '/metrics')
        lost = re.search(r'^hearth_log_lines_dropped_total (\d+)', metrics, re.M)
        assert lost and int(lost[1]) > 0


def test_the_request_time_limit_is_a_504_or_an_event(smollm2_path):
    with support.Server('--request-timeout', '0.4', models=[smollm2_path]) as server:
        body = {'prompt': 'a', 'max_tokens': 4000, 'ignore_eos': True}
        status, _, answer = server.request('POST', '/v1/completions', body)
        assert status == 504 and answer['error']['code'] == 'request_timeout'
        last = list(support.events(server.open_stream('/v1/completions', body)))[-1]
        assert 'request_timeout' in last
        support.wait_until(lambda: server.cells_of_requests() == 0, 'memory is freed')


def test_overload_is_answered_at_once(smollm2_path):
    with support.Server('--max-seqs', '1', '--queue', '2', models=[smollm2_path]) as server:
        streams = [server.open_stream('/v1/completions', {'prompt': 'a', 'max_tokens': 2000, 'ignore_eos': True}) for _ in range(2)]
        support.wait_until(lambda: server.metric('hearth_requests_running') + server.metric('hearth_requests_waiting') == 2, 'both inside')
        started = time.monotonic()
        status, headers, answer = server.request('POST', '/v1/completions', {'prompt': 'a'})
        assert status == 429 and int(headers['Retry-After']) >= 1, answer
        assert time.monotonic() - started < 5
        for stream in streams:
            stream.close()


def test_a_client_that_waits_gets_pings(smollm2_path):
    with support.Server('--max-seqs', '1', '--ping-interval', '0.05', models=[smollm2_path]) as server:
        first = server.open_stream('/v1/completions', {'prompt': 'a', 'max_tokens': 2000, 'ignore_eos': True})
        first.recv(10)
        second = server.open_stream('/v1/completions', {'prompt': 'b', 'max_tokens': 1})
        text = b''
        while b'\n: ' not in text:
            chunk = second.recv(4096)
            assert chunk, text
            text += chunk
        first.close()
        second.close()


@pytest.mark.parametrize('count', [3])
def test_restarting_many_times_leaves_nothing_behind(stories_path, count):
    for _ in range(count):
        with support.Server(models=[stories_path]) as server:
            worker = server.workers()[0]
        support.wait_until(lambda: not support.alive(worker), 'the worker is gone')


def test_stdout_carries_only_the_ready_text(stories_path):
    process = subprocess.Popen([support.BINARY, 'serve', '--port', '0', '--model', str(stories_path)], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline().startswith('Hearth ')
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert 'curl ' in rest and process.wait(support.PATIENCE_S) == 0
    process.stdout.close()


def test_engine_flags_reach_the_engine(stories_path):
    prompt = 'Once upon a time ' * 8
    with support.Server(models=[stories_path]) as server:
        server.complete(prompt, max_tokens=200, temperature=0, ignore_eos=True)
        again = server.complete(prompt, max_tokens=200, temperature=0, ignore_eos=True)
        assert again['usage']['prompt_tokens_details']['cached_tokens'] > 0
        assert again['timings']['draft_n_accepted'] > 0, 'the same was said before'
    with support.Server('--no-prefix-cache', '--no-speculation', models=[stories_path]) as server:
        server.complete(prompt, max_tokens=200, temperature=0, ignore_eos=True)
        again = server.complete(prompt, max_tokens=200, temperature=0, ignore_eos=True)
        assert again['usage']['prompt_tokens_details']['cached_tokens'] == 0
        assert 'draft_n' not in again['timings']
