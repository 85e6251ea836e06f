#!/usr/bin/env python3
"""Texts embedded per second: Hearth against llama-server on the same file and machine.

    bench/embeddings.py MODEL.gguf --hearth build/release/bin/hearth --peer llama-server [--texts 1000] [--rounds 5]

One server runs at a time and who comes first changes from round to round. Both get the same requests over the same connections: all texts
in one request, and in requests of 50 over four connections. Of each server's ways, and of the peer's flags, the best median counts. The
vectors of both are compared: the smallest cosine is printed. The exit status is 1 if a server fails or the vectors differ.
"""
import argparse
import base64
import http.client
import json
import math
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

WORDS = ('the a river bank holds money cat sits on warm mat stock prices fell after report children play in garden how do i reset my '
         'password train leaves at noon for berlin please send invoice weather is cold today music calms').split()
PEER_FLAGS = ([], ['-b', '2048', '-ub', '2048'], ['-b', '2048', '-ub', '2048', '-np', '16', '-fa', 'on'])
COSINE_MIN = 0.9999


def make_texts(count, seed=20261122):
    rng = random.Random(seed)
    return [' '.join(rng.choice(WORDS) for _ in range(rng.randint(5, 20))) for _ in range(count)]


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, command):
        self.port = free_port()
        self.process = subprocess.Popen([*command, '--port', str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.post(['warm up']):
                    return self
            except (OSError, RuntimeError):
                time.sleep(0.05)
        self.__exit__()
        raise RuntimeError(f'{self.process.args[0]} did not get ready')

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(30)

    def post(self, texts, connection=None):
        connection = connection or http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        connection.request('POST', '/v1/embeddings', json.dumps({'input': texts, 'encoding_format': 'base64'}),
                           {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f'{answer.status}: {body[:200]}')
        return body

    def one_request(self, texts):
        self.post(texts)

    def four_connections(self, texts):
        parts = [texts[i:i + 50] for i in range(0, len(texts), 50)]
        lock = threading.Lock()

        def work():
            connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
            while True:
                with lock:
                    if not parts:
                        return
                    part = parts.pop()
                self.post(part, connection)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def vectors(self, texts):
        raw = [base64.b64decode(entry['embedding']) for entry in json.loads(self.post(texts))['data']]
        return [struct.unpack(f'<{len(vector) // 4}f', vector) for vector in raw]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model')
    parser.add_argument('--hearth', required=True)
    parser.add_argument('--peer', required=True)
    parser.add_argument('--texts', type=int, default=1000)
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args()
    texts = make_texts(options.texts)
    commands = {'hearth': [options.hearth, 'serve', '--model', options.model, '--cache-disk', '0']}
    for flags in PEER_FLAGS:
        commands['llama-server ' + ' '.join(flags)] = [options.peer, '-m', options.model, '--embedding', '--pooling', 'mean', *flags]
    rates, vectors = {}, {}
    for round_index in range(options.rounds):
        names = list(commands)
        for name in names if round_index % 2 == 0 else reversed(names):
            with Server(commands[name]) as server:
                for way in ('one_request', 'four_connections'):
                    began = time.monotonic()
                    getattr(server, way)(texts)
                    rates.setdefault((name.strip(), way), []).append(len(texts) / (time.monotonic() - began))
                if round_index == 0:
                    vectors[name.strip()] = server.vectors(texts[:100])
    for (name, way), samples in sorted(rates.items()):
        print(f'{name:50} {way:18} {statistics.median(samples):8.1f} texts/s  ({min(samples):.1f} to {max(samples):.1f})')
    ours = max(statistics.median(s) for (name, _), s in rates.items() if name == 'hearth')
    theirs = max(statistics.median(s) for (name, _), s in rates.items() if name != 'hearth')
    peer = next(v for name, v in vectors.items() if name != 'hearth')
    closest = min(cosine(a, b) for a, b in zip(vectors['hearth'], peer))
    print(f'ratio {ours / theirs:.2f}, smallest cosine {closest:.6f}')
    return 0 if closest >= COSINE_MIN else 1


if __name__ == '__main__':
    sys.exit(main())
