import asyncio
import json
import os
import pathlib
import sys
import tempfile
import types
import unittest

from suite import crowd
from suite.process import MeasureError

REPORT = {
    'sent_times': [0.0, 1.0, 2.0, 3.0, 4.0], 'head_times': [0.5, 1.004, 2.1, None, None], 'end_times': [1.5, 1.005, 2.2, 3.1, 29.0],
    'statuses': [200, 429, 503, 0, 0], 'retry_after_s': [None, 7, None, None, None], 'ttfts': [0.7, 0, 0, 0, 0],
    'outcomes': ['completed', 'http_error', 'http_error', 'connect', 'timeout'],
    'errors': ['', 'HTTP 429: full', 'HTTP 503: loading', 'refused', 'no end within 25000 ms; 0 events came'],
    'client_cpu_s': 0.01,
}
# Poses as `hearth bench serve`: keeps what it was asked and its process id, writes a report or does what the label says.
CLIENT = f'''#!{sys.executable}
import json, os, pathlib, sys, time
path = pathlib.Path(sys.argv[sys.argv.index('--output') + 1])
(path.parent / 'asked').write_text(json.dumps(sys.argv[1:]))
(path.parent / 'pid').write_text(str(os.getpid()))
if 'stays' in path.name:
    time.sleep(600)
if 'fails' in path.name:
    sys.exit('no server there')
path.write_text({json.dumps(REPORT)!r})
'''


class Crowd(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        client = self.folder / 'client'
        client.write_text(CLIENT)
        client.chmod(0o755)
        suite = types.SimpleNamespace(loadgen=client, raw_path=lambda label: self.folder / f'{label}.json')
        self.visit = types.SimpleNamespace(suite=suite, subject='hearth')
        self.server = types.SimpleNamespace(url='http://127.0.0.1:1', pid=42)

    def run_client(self, label, timeout_s=60, **options):
        return asyncio.run(crowd.run(self.visit, self.server, label, timeout_s, **options))

    def test_requests_become_answers(self):
        answers, report = self.run_client('crowd', rate=2.5, request_timeout=25)
        self.assertEqual(report['client_cpu_s'], 0.01)
        self.assertEqual([a.fate() for a in answers], ['answered', 'refused', 'other', 'other', 'hung'])
        self.assertAlmostEqual(answers[0].ttft_ms, 700)
        self.assertAlmostEqual((answers[1].head - answers[1].sent) * 1000, 4)
        self.assertEqual([a.reason() for a in answers[2:4]], ['status 503, loading', 'status None, connect: refused'])
        asked = json.loads((self.folder / 'asked').read_text())
        self.assertEqual(asked[asked.index('--request-timeout') + 1], '25')
        self.assertEqual(asked[asked.index('--server-pid') + 1], '42')
        self.assertIn('--detailed', asked)

    def test_a_refusal_that_does_not_say_when_to_come_again_is_none(self):
        self.assertEqual(crowd.answer_of(0.0, 0.1, 0.1, 429, None, 'http_error', 0, 'HTTP 429: full').fate(), 'other')

    def test_what_the_client_says_when_it_fails_is_told(self):
        with self.assertRaisesRegex(MeasureError, 'fails: the client ended with 1: no server there'):
            self.run_client('fails')

    def test_the_client_ends_with_what_waits_for_it(self):
        pid = self.folder / 'pid'

        async def given_up():
            task = asyncio.create_task(crowd.run(self.visit, self.server, 'stays', 600))
            while not (pid.is_file() and pid.read_text()):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for wait in (given_up, lambda: crowd.run(self.visit, self.server, 'stays', 1)):
            pid.unlink(missing_ok=True)
            try:
                asyncio.run(wait())
            except MeasureError as error:
                self.assertIn('did not end within 1 s', str(error))
            if pid.is_file():  # on a busy machine it may not have begun within its second
                with self.assertRaises(ProcessLookupError):
                    os.kill(int(pid.read_text()), 0)


if __name__ == '__main__':
    unittest.main()
