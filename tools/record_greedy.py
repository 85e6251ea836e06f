#!/usr/bin/env python3
"""Records llama-server's greedy answers for tests/integration/test_greedy.py.

usage: tools/record_greedy.py LLAMA_SERVER MODEL > tests/integration/greedy_expected.json

LLAMA_SERVER is built from the pinned source (`./dev bench` builds it). Each prompt runs alone on a fresh slot.
"""
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

TOKENS = 32
SUBJECTS = ['the sea', 'a small village', 'winter', 'bread', 'a train journey', 'the moon', 'a garden', 'old books', 'rain', 'bees']
FORMS = ['Write one sentence about {}.', 'What do you know about {}?', 'Give me three words that describe {}.',
         'Why do people like {}?', 'Explain {} to a child.']


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {'Content-Type': 'application/json'})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def main():
    server, model = sys.argv[1:]
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    url = f'http://127.0.0.1:{port}'
    process = subprocess.Popen([server, '-m', model, '--port', str(port), '-t', '2', '-np', '1', '-c', '2048', '--no-webui'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(url + '/health', timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        cases = []
        for form in FORMS:
            for subject in SUBJECTS:
                prompt = form.format(subject)
                answer = post(url + '/v1/chat/completions', {'messages': [{'role': 'user', 'content': prompt}], 'temperature': 0,
                                                             'max_tokens': TOKENS, 'cache_prompt': False})
                cases.append({'prompt': prompt, 'text': answer['choices'][0]['message']['content']})
        json.dump({'model': pathlib.Path(model).name, 'tokens': TOKENS, 'cases': cases}, sys.stdout, indent=1, ensure_ascii=False)
        print()
    finally:
        process.kill()
        process.wait()


if __name__ == '__main__':
    main()
