#!/usr/bin/env python3
"""Two models on disk, room for one: from a request for the one that is not there to its first token.

    python3 bench/swaps.py MODEL MODEL [--rounds N] [--hearth FILE] [--server FILE]

Hearth with a budget for one model against llama-server's router with --models-max 1, on the same files, page cache warm, in turns
(whoever was first in a round is second in the next). Prints the times in ms and how they compare.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from suite import programs  # noqa: E402

PATIENCE_S = 120


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def first_token_ms(port, model):
    """A stream's first event that carries text."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE_S)
    body = {'model': model, 'prompt': 'Once upon a time', 'max_tokens': 4, 'temperature': 0, 'stream': True}
    begin = time.monotonic()
    try:
        connection.request('POST', '/v1/completions', json.dumps(body), {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f'{model}: HTTP {answer.status}: {answer.read()[:300]}')
        for line in answer:
            if line.startswith(b'data: {') and (json.loads(line[6:]).get('choices') or [{}])[0].get('text'):
                return 1000 * (time.monotonic() - begin)
        raise SystemExit(f'{model}: the stream ended without a token')
    finally:
        connection.close()


@contextlib.contextmanager
def running(command, port, ready):
    log = tempfile.TemporaryFile()
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                if ask(port, 'GET', ready)[0] == 200:
                    break
            if process.poll() is not None or time.monotonic() > end:
                log.seek(0)
                raise SystemExit(f'{command[0]} did not start: {log.read()[-2000:].decode(errors="replace")}')
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()


def budget(hearth, models):
    """Enough for the larger one, too little for both."""
    sizes = [json.loads(subprocess.run([hearth, 'estimate', model, '--json', '--kv-cells', '2048'], check=True, capture_output=True,
                                       text=True).stdout)['total_bytes'] for model in models]
    return int(max(sizes) * 1.02 + 4e6)


def hearth_command(hearth, models, port):
    command = [hearth, 'serve', '--port', str(port), '--lazy', '--memory', str(budget(hearth, models)), '--ctx', '2048', '--kv-cells',
               '2048', '--cache-disk', '0', '--cache-memory', '0']
    for model in models:
        command += ['--model', str(model)]
    return command


def server_command(server, folder, port):
    return [server, '--models-dir', str(folder), '--models-max', '1', '--port', str(port), '--host', '127.0.0.1', '-c', '2048', '-np', '1',
            '--no-webui']


def measure(names, port, swaps):
    first_token_ms(port, names[-1])  # and the first of the loop is a swap
    return [first_token_ms(port, names[i % 2]) for i in range(swaps)]


def spread(values):
    ordered = sorted(values)
    return f'median {statistics.median(values):.0f}, 95th of 100 {ordered[int(0.95 * (len(ordered) - 1))]:.0f}, n {len(values)}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('models', nargs=2, type=pathlib.Path)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--swaps', type=int, default=8, help='of a round, of each server')
    parser.add_argument('--hearth', type=pathlib.Path, default=programs.ROOT / 'build/release/bin/hearth')
    parser.add_argument('--server', type=pathlib.Path, default=programs.cache_folder() / 'peer-build/bin/llama-server')
    options = parser.parse_args()
    models = [model.resolve() for model in options.models]
    names = [model.name.removesuffix('.gguf') for model in models]
    times = {'hearth': [], 'llama-server': []}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            (pathlib.Path(folder) / model.name).symlink_to(model)
            model.read_bytes()  # into the page cache
        for number in range(options.rounds):
            order = list(times) if number % 2 == 0 else list(times)[::-1]
            for subject in order:
                port = free_port()
                command, ready = ((hearth_command(str(options.hearth), models, port), '/health') if subject == 'hearth' else
                                  (server_command(str(options.server), folder, port), '/health'))
                with running(command, port, ready):
                    times[subject] += measure(names, port, options.swaps)
    for subject, values in times.items():
        print(f'{subject}: request to first token after a swap, ms: {spread(values)}')
    ratio = statistics.median(times['hearth']) / statistics.median(times['llama-server'])
    print(f'ratio of medians: {ratio:.2f}')


if __name__ == '__main__':
    main()
