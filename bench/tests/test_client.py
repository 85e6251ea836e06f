import asyncio
import contextlib
import unittest

from suite import client
from suite.client import Answer, Client
from suite.process import MeasureError

HEAD = b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n'
USAGE = (b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
         b'data: [DONE]\n\n')


def chunk(data):
    return b'%x\r\n%s\r\n' % (len(data), data)


def plain(status, body, *headers):
    return b'\r\n'.join([b'HTTP/1.1 ' + status, *headers, b'Content-Length: %d' % len(body), b'', body])


async def talk(script, use, timeout_s=5):
    """Runs `use(client)` against a server that sends the parts of `script`; None: says nothing more and waits."""
    requests, tasks = [], []

    async def serve(reader, writer):
        tasks.append(asyncio.current_task())
        head = await reader.readuntil(b'\r\n\r\n')
        length = int(head.lower().split(b'content-length:')[1].split(b'\r\n')[0])
        requests.append(head + await reader.readexactly(length))
        for part in script:
            if part is None:
                await reader.read()  # until the client leaves
                break
            writer.write(part)
            await asyncio.sleep(0.003)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    async with server:
        try:
            return await use(Client(f'http://127.0.0.1:{server.sockets[0].getsockname()[1]}', timeout_s)), requests
        finally:
            await asyncio.gather(*tasks, return_exceptions=True)


class Streams(unittest.TestCase):
    def stream(self, script, timeout_s=5):
        answer, self.requests = asyncio.run(talk(script, lambda c: c.stream(c.body('Hi', 2)), timeout_s))
        return answer

    def test_text_times_and_usage_of_a_stream(self):
        answer = self.stream([HEAD, chunk(b': ping\n\n' + TOKEN % b'a'), chunk(TOKEN % b''), chunk(TOKEN % b'b'),
                              chunk(USAGE) + b'0\r\n\r\n'])
        self.assertEqual((answer.text, len(answer.times), answer.fate()), ('ab', 2, 'answered'))
        self.assertEqual((answer.prompt_tokens, answer.cached_tokens), (9, 4))
        self.assertTrue(answer.sent < answer.head <= answer.times[0] < answer.times[1] <= answer.ended)
        self.assertAlmostEqual(answer.tokens_per_s, 1 / (answer.times[1] - answer.times[0]))
        self.assertIn(b'"max_tokens": 2', self.requests[0])

    def test_an_event_may_be_split_anywhere(self):
        whole = TOKEN % b'a' + (TOKEN % b'b').replace(b'\n', b'\r\n') + USAGE
        for size in (1, 7, 50):
            parts = [chunk(whole[i:i + size]) for i in range(0, len(whole), size)]
            with self.subTest(size=size):
                self.assertEqual(self.stream([HEAD, b''.join(parts), b'0\r\n\r\n']).text, 'ab')

    def test_tokens_that_come_at_once_count_once(self):
        answer = self.stream([HEAD, chunk(TOKEN % b'a' + TOKEN % b'b' + TOKEN % b'c'), chunk(TOKEN % b'd'), chunk(USAGE), b'0\r\n\r\n'])
        self.assertEqual((answer.text, len(answer.times)), ('abcd', 2))

    def test_a_refusal_needs_to_say_when_to_come_again(self):
        body = b'{"error":{"message":"busy"}}'
        self.assertEqual(self.stream([plain(b'429 Too Many Requests', body, b'Retry-After: 7')]).fate(), 'refused')
        self.assertEqual(self.stream([plain(b'429 Too Many Requests', body)]).fate(), 'other')
        answer = self.stream([plain(b'503 Service Unavailable', body, b'Retry-After: 7')])
        self.assertEqual(answer.fate(), 'other')
        self.assertIn('busy', answer.reason())

    def test_a_stream_that_breaks_off_is_no_answer(self):
        for script in ([HEAD, chunk(TOKEN % b'a')], [HEAD, chunk(TOKEN % b'a') + b'0\r\n\r\n'], [b'SSH-2.0\r\n'], [],
                       [HEAD, chunk(b'data: {"error":{"message":"out of memory"}}\n\n' + USAGE), b'0\r\n\r\n']):
            with self.subTest(script=script):
                self.assertEqual(self.stream(script).fate(), 'other')

    def test_a_server_that_says_nothing_has_hung(self):
        answer = self.stream([HEAD, chunk(TOKEN % b'a'), None], timeout_s=0.1)
        self.assertEqual((answer.fate(), answer.error, answer.text), ('hung', 'timeout', 'a'))
        with self.assertRaisesRegex(MeasureError, 'the question: status 200, timeout'):
            answer.checked('the question')

    def test_a_stream_can_be_watched_and_left(self):
        async def use(c):
            task, answer = c.start(c.body('Hi', 2))
            await client.until(lambda: answer.times, 'a token', 5)
            seen = answer.text
            await client.stop([task])
            return seen, answer
        (seen, answer), _ = asyncio.run(talk([HEAD, chunk(TOKEN % b'a'), None], use))
        self.assertEqual((seen, answer.fate(), answer.error), ('a', 'hung', 'cancelled'))

    def test_waiting_ends(self):
        with self.assertRaisesRegex(MeasureError, 'never: not within 0.02 s'):
            asyncio.run(client.until(lambda: False, 'never', 0.02))

    def test_an_event_without_end_is_refused(self):
        events = client.Events()
        with self.assertRaisesRegex(MeasureError, 'an event of more than'):
            list(events.feed(b'data: ' + b'x' * (client.LINE_BYTES_MAX + 1)))

    def test_answers_outside_of_streams(self):
        script = [plain(b'200 OK', b'{"data":[{"id":"m"}]}')]
        found, _ = asyncio.run(talk(script, lambda c: c.ready()))
        self.assertEqual(found.model, 'm')
        self.assertEqual(found.completion('x', 3, id_slot=0)['prompt'], 'x')
        for body, error in ((b'[]', 'lists no model'), (b'{', 'JSONDecodeError')):
            with self.assertRaisesRegex(MeasureError, error):
                asyncio.run(talk([plain(b'200 OK', body)], lambda c: c.ready()))

    def test_no_answer_has_no_numbers(self):
        self.assertIsNone(Answer().ttft_ms)
        self.assertIsNone(Answer(times=[1.0]).tokens_per_s)
        self.assertEqual(Answer().cached_tokens, 0)


if __name__ == '__main__':
    unittest.main()
