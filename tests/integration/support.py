"""A hearth server under test: start, talk, look at its processes, stop."""
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get('HEARTH_BINARY', str(SOURCE / 'build/dev/bin/hearth'))
CACHE = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'hearth'
STORIES = SOURCE.parent / 'shared/models/stories260Ktok512.gguf'
SMOLLM2 = CACHE / 'models/SmolLM2-135M-Instruct.Q4_1.gguf'

# Sanitized builds are slow; limits are there to end a hang, not to measure.
PATIENCE_S = float(os.environ.get('HEARTH_PATIENCE_S', '120'))


def wait_until(condition, what, patience=PATIENCE_S):
    """Polls until `condition()` is truthy and returns it."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f'gave up waiting after {patience} s: {what}')


def alive(pid):
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] not in 'ZX'
    except OSError:
        return False


def children(pid):
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


class Server:
    def __init__(self, *arguments, models=None, env=None):
        models = [str(STORIES)] if models is None else models
        self.log = tempfile.NamedTemporaryFile('w+', prefix='hearth-test-', suffix='.log')
        command = [BINARY, 'serve', '--port', '0', '--log-format', 'json']
        for model in models:
            command += ['--model', str(model)]
        if not any(argument.startswith('--cache-disk') for argument in arguments):
            command += ['--cache-disk', '0']  # each test begins from nothing and leaves nothing
        # Nothing of this machine's user is found, remembered or changed, unless the test says so.
        self.home = tempfile.TemporaryDirectory(prefix='hearth-test-')
        environment = {**os.environ, 'HEARTH_DATA_DIR': self.home.name + '/data', 'XDG_CACHE_HOME': self.home.name + '/cache',
                       'HEARTH_MODELS_DIR': '', **(env or {})}
        self.process = subprocess.Popen(command + list(arguments), stdout=subprocess.PIPE, stderr=self.log,
                                        stdin=subprocess.DEVNULL, text=True, env=environment)
        self.port = self._read_port()

    def _read_port(self):
        # The ready line is the only thing on stdout.
        for line in self.process.stdout:
            if ' is ready on ' in line:
                return int(line.rsplit(':', 1)[1])
        raise AssertionError(f'the server ended before it was ready: {self.log_text()}')

    def log_text(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}'

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        """(status, headers, decoded body)"""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)
        try:
            data = json.dumps(body) if body is not None and not isinstance(body, (str, bytes)) else body
            connection.request(method, path, data, {'Content-Type': 'application/json', **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get('Content-Type', '')
            return answer.status, answer.headers, json.loads(text) if 'json' in kind and text else text.decode()
        finally:
            connection.close()

    def complete(self, prompt, **fields):
        status, _, body = self.request('POST', '/v1/completions', {'prompt': prompt, **fields})
        assert status == 200, body
        return body

    def chat(self, text, **fields):
        status, _, body = self.request('POST', '/v1/chat/completions', {'messages': [{'role': 'user', 'content': text}], **fields})
        assert status == 200, body
        return body

    def open_stream(self, path, body):
        """A socket on which a streaming answer to `body` is arriving."""
        data = json.dumps({**body, 'stream': True}).encode()
        stream = socket.create_connection(('127.0.0.1', self.port), timeout=PATIENCE_S)
        stream.sendall(b'POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' %
                       (path.encode(), len(data)) + data)
        return stream

    def metrics(self):
        _, _, text = self.request('GET', '/metrics')
        values = {}
        for line in text.splitlines():
            if line and not line.startswith('#'):
                name, value = line.rsplit(' ', 1)
                values[name] = float(value)
        return values

    def metric(self, name):
        """The sum over all label values."""
        return sum(value for key, value in self.metrics().items() if key.split('{')[0] == name)

    def cells_of_requests(self):
        """Cells of the KV cache in use, less those of kept prefixes that nobody uses."""
        values = self.metrics()
        return sum(value * (1 if key.startswith('hearth_kv_cells_used') else -1) for key, value in values.items()
                   if key.split('{')[0] in ('hearth_kv_cells_used', 'hearth_kv_cells_cached'))

    def workers(self):
        return [pid for pid in children(self.process.pid) if alive(pid)]

    def worker_of(self, model_path):
        # The name it was given tells two links to one file apart; a server that looked into a folder by a link names what
        # the link leads to.
        given = pathlib.Path(model_path)
        names = (str(given), str(given.parent.resolve() / given.name), str(given.resolve()))
        arguments = {}
        for pid in self.workers():
            try:
                arguments[pid] = pathlib.Path(f'/proc/{pid}/cmdline').read_text().split('\0')
            except OSError:  # it ended since, as the worker of a model that was swapped does
                continue
        for name in names:
            for pid, words in arguments.items():
                if name in words:
                    return pid
        raise AssertionError(f'no worker for {model_path}')

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        code = self.stop()
        self.log.close()
        if exc == (None, None, None):
            assert code == 0, f'the server ended with {code}'


def events(stream):
    """The data of each SSE event read from a raw socket, until the stream ends."""
    buffer = b''
    while True:
        chunk = stream.recv(65536)
        if not chunk:
            return
        buffer += chunk
        while b'\n\n' in buffer:
            block, buffer = buffer.split(b'\n\n', 1)
            for line in block.split(b'\n'):
                line = line.strip(b'\r')
                if line.startswith(b'data: '):
                    yield line[6:].decode()
                    if line == b'data: [DONE]':
                        return
        if buffer.endswith(b'0\r\n\r\n'):
            return


# Nothing of this machine's user is remembered or changed, unless a test says so.
DATA = tempfile.TemporaryDirectory(prefix='hearth-test-')


def run_cli(*arguments, stdin='', timeout=PATIENCE_S, environment=None):
    return subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=timeout,
                          env={'HEARTH_DATA_DIR': DATA.name, **(os.environ if environment is None else environment)})
