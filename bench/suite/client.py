"""A streaming client of OpenAI's dialect on asyncio: for what `hearth bench serve` does not do, such as looking at streams while they run.

Times are of time.perf_counter(): when a request was sent, when its status came, when each event with text came.
"""
import asyncio
import contextlib
import dataclasses
import json
import resource
import time
import urllib.parse

from .process import MeasureError

CHAT, COMPLETIONS = '/v1/chat/completions', '/v1/completions'
BODY_BYTES_MAX = 64 << 20  # of one answer
LINE_BYTES_MAX = 1 << 20  # of a status line, header or event
HEADERS_MAX = 200
TOGETHER_S = 0.0005  # events that lie closer came at once: several tokens of one step, or of one read


@dataclasses.dataclass(eq=False)
class Answer:
    """One request's fate. Filled in while it runs, so another task may look at it."""
    sent: float = 0.0
    head: float | None = None  # when the status line and headers had come
    ended: float | None = None
    status: int | None = None
    headers: dict = dataclasses.field(default_factory=dict)  # names in lower case
    times: list = dataclasses.field(default_factory=list)  # when text came; what came at once counts once
    text: str = ''
    usage: dict = dataclasses.field(default_factory=dict)
    timings: dict = dataclasses.field(default_factory=dict)  # what the server says of its own times
    finished: bool = False  # the stream ended as it should
    error: str = ''

    @property
    def ttft_ms(self):
        return (self.times[0] - self.sent) * 1000 if self.times else None

    @property
    def answered(self):
        return self.status == 200 and self.finished and not self.error

    @property
    def refused(self):
        """Told to come back later, and when."""
        return self.status == 429 and not self.error and self.headers.get('retry-after', '').isdigit()

    @property
    def prompt_tokens(self):
        return self.usage.get('prompt_tokens', 0)

    @property
    def cached_tokens(self):
        return (self.usage.get('prompt_tokens_details') or {}).get('cached_tokens', 0)

    @property
    def tokens_per_s(self):
        """Of decoding: the first token does not count."""
        tokens = self.usage.get('completion_tokens', len(self.times))
        seconds = self.times[-1] - self.times[0] if len(self.times) > 1 else 0
        return (tokens - 1) / seconds if seconds > 0 and tokens > 1 else None

    def fate(self):
        """answered, refused, hung (no end in the time it was given) or other."""
        if self.answered:
            return 'answered'
        if self.refused:
            return 'refused'
        return 'hung' if self.error in ('timeout', 'cancelled') else 'other'

    def reason(self):
        """Why it is not an answer, short enough to count alike ones."""
        if self.answered:
            return 'no text'
        said = '' if self.status == 200 else self.text
        return f'status {self.status}, {self.error or said or "cut off"}'[:120]

    def checked(self, what):
        """Itself, or MeasureError if it was not answered."""
        if not self.answered or not self.times:
            raise MeasureError(f'{what}: {self.reason()}')
        return self


def allow_many_connections():
    """As many open files as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def read_head(reader):
    """(status, headers) of a response."""
    line = await reader.readline()
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b'HTTP/1.') or not parts[1].isdigit():
        raise MeasureError(f'no HTTP response but {line[:60]!r}' if line else 'closed without a response')
    headers = {}
    while (line := await reader.readline()) not in (b'\r\n', b'\n', b''):
        name, _, value = line.decode('latin-1').partition(':')
        headers[name.strip().lower()] = value.strip()
        if len(headers) > HEADERS_MAX:
            raise MeasureError(f'more than {HEADERS_MAX} headers')
    return int(parts[1]), headers


async def body_parts(reader, headers):
    """The body as it comes: chunked, of a known length, or until the end of the connection."""
    if 'chunked' in headers.get('transfer-encoding', '').lower():
        while size := int((await reader.readline()).split(b';')[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
    elif (length := headers.get('content-length', '')).isdigit():
        left = int(length)
        while left and (part := await reader.read(min(left, 1 << 16))):
            left -= len(part)
            yield part
        if left:
            raise MeasureError(f'the body ended {left} bytes early')
    else:
        while part := await reader.read(1 << 16):
            yield part


class Events:
    """Cuts a stream of server-sent events into the data of each."""

    def __init__(self):
        self.rest = b''

    def feed(self, part):
        self.rest += part.replace(b'\r', b'')  # JSON has none, so every one belongs to the framing
        *whole, self.rest = self.rest.split(b'\n\n')
        if len(self.rest) > LINE_BYTES_MAX:
            raise MeasureError(f'an event of more than {LINE_BYTES_MAX} bytes')
        for event in whole:
            data = [line[5:].strip() for line in event.split(b'\n') if line.startswith(b'data:')]
            if data:
                yield b'\n'.join(data)


def take_event(answer, data):
    """Adds one event to the answer."""
    if data == b'[DONE]':
        answer.finished = True
        return
    event = json.loads(data)
    if 'error' in event:
        answer.error = f'error event: {json.dumps(event["error"])[:200]}'
        return
    for choice in event.get('choices') or []:
        piece = choice.get('text') or (choice.get('delta') or {}).get('content') or ''
        if piece:
            now = time.perf_counter()
            if not answer.times or now - answer.times[-1] >= TOGETHER_S:
                answer.times.append(now)
            answer.text += piece
    answer.usage = event.get('usage') or answer.usage
    answer.timings = event.get('timings') or answer.timings


class Client:
    """Of one server. Every request has a connection of its own, so nothing waits for another."""

    def __init__(self, url, timeout_s=120):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.timeout_s = parts.hostname, parts.port, timeout_s
        self.model = None

    async def exchange(self, method, path, body, on_head, on_part):
        reader, writer = await asyncio.open_connection(self.host, self.port, limit=LINE_BYTES_MAX)
        try:
            payload = b'' if body is None else json.dumps(body).encode()
            writer.write(f'{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n'
                         f'Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n'.encode() + payload)
            status, headers = await read_head(reader)
            on_head(status, headers)
            total = 0
            async for part in body_parts(reader, headers):
                total += len(part)
                if total > BODY_BYTES_MAX:
                    raise MeasureError(f'a body of more than {BODY_BYTES_MAX} bytes')
                on_part(part)
        finally:
            writer.transport.abort()  # also leaves a server that would go on
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def json(self, method, path, body=None):
        """(status, body) of a request that is not streamed."""
        found, parts = [], []
        try:
            await asyncio.wait_for(self.exchange(method, path, body, lambda status, _: found.append(status), parts.append), self.timeout_s)
            return found[0], json.loads(b''.join(parts) or b'null')
        except (OSError, EOFError, ValueError) as error:  # a time-out is an OSError
            raise MeasureError(f'{method} {path}: status {found[0] if found else "-"}, {type(error).__name__}: {error}') from None

    async def ready(self):
        """Learns the model's name."""
        _, listed = await self.json('GET', '/v1/models')
        try:
            self.model = listed['data'][0]['id']
        except (TypeError, KeyError, IndexError):
            raise MeasureError(f'/v1/models lists no model: {str(listed)[:200]}') from None
        return self

    def body(self, prompt, tokens, **extra):
        """Of a request: `prompt` is a text or a list of messages; greedy, and as many tokens as asked for."""
        messages = prompt if isinstance(prompt, list) else [{'role': 'user', 'content': prompt}]
        return self.common(tokens, {'messages': messages, **extra})

    def completion(self, prompt, tokens, **extra):
        """The same for the endpoint without messages."""
        return self.common(tokens, {'prompt': prompt, **extra})

    def common(self, tokens, fields):
        return {'model': self.model, 'max_tokens': tokens, 'temperature': 0, 'ignore_eos': True, 'stream': True,
                'stream_options': {'include_usage': True}, **fields}

    async def stream(self, body, path=CHAT, answer=None, timeout_s=None):
        """Sends and reads to the end. Never raises for what the server does: the answer says it."""
        answer = answer or Answer()
        events = Events()

        def on_head(status, headers):
            answer.status, answer.headers, answer.head = status, headers, time.perf_counter()

        def on_part(part):
            if answer.status != 200:
                answer.text += part.decode(errors='replace')[:1000]
                return
            for data in events.feed(part):
                take_event(answer, data)

        answer.sent = time.perf_counter()
        try:
            await asyncio.wait_for(self.exchange('POST', path, body, on_head, on_part), timeout_s or self.timeout_s)
        except asyncio.TimeoutError:
            answer.error = 'timeout'
        except asyncio.CancelledError:
            answer.error = 'cancelled'
            raise
        except (OSError, EOFError, ValueError, KeyError, MeasureError) as error:
            answer.error = f'{type(error).__name__}: {error}'
        finally:
            answer.ended = time.perf_counter()
        return answer

    def start(self, body, **options):
        """(task, answer) of a stream that runs beside the caller."""
        answer = Answer()
        return asyncio.create_task(self.stream(body, answer=answer, **options)), answer


async def stop(tasks):
    """Disconnects what still runs, and waits until all are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition, what, timeout_s=60):
    """Waits, looking every few milliseconds."""
    end = time.perf_counter() + timeout_s
    while not condition():
        if time.perf_counter() > end:
            raise MeasureError(f'{what}: not within {timeout_s:g} s')
        await asyncio.sleep(0.005)
