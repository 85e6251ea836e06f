"""Processes under measurement: starting, timing to ready, CPU and memory of the tree, and always ending them."""
import os
import pathlib
import signal
import socket
import subprocess
import time

TICKS = os.sysconf('SC_CLK_TCK')
PROC = pathlib.Path('/proc')
STOP_GRACE_S = 10


class MeasureError(Exception):
    """Something could not be measured; the text says what and why."""


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as probe:
        return probe.getsockname()[1]


def _stat(pid):
    """(parent, cpu seconds with ended children, name), or None if there is no such process."""
    try:
        text = (PROC / str(pid) / 'stat').read_text()
    except OSError:
        return None
    name = text[text.index('(') + 1:text.rindex(')')]
    fields = text[text.rindex(')') + 2:].split()
    return int(fields[1]), sum(int(t) for t in fields[11:15]) / TICKS, name


def tree(pid):
    """Process ids of `pid` and all its descendants, itself first."""
    children = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))):
            children.setdefault(stat[0], []).append(int(entry.name))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found


def memory(pid):
    """Per process of the tree: name, Rss, Pss, private and, of the private, anonymous memory in KiB."""
    rows = []
    for p in tree(pid):
        stat = _stat(p)
        values = dict(Rss=0, Pss=0, Private=0, Anonymous=0)
        try:
            for line in (PROC / str(p) / 'smaps_rollup').read_text().splitlines()[1:]:
                key, kib = line.split()[:2]
                key = key.rstrip(':')
                if key in ('Private_Clean', 'Private_Dirty'):
                    values['Private'] += int(kib)
                elif key in values:
                    values[key] = int(kib)
        except OSError:
            continue  # it ended between two looks
        if stat:
            rows.append({'pid': p, 'name': stat[2], 'rss_kib': values['Rss'], 'pss_kib': values['Pss'],
                         'private_kib': values['Private'], 'anonymous_kib': values['Anonymous']})
    return rows


def _status(port, path):
    """The status of GET path, or None without an answer."""
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=1) as connection:
            connection.sendall(f'GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n'.encode())
            head = connection.recv(64)
            return int(head[9:12]) if head.startswith(b'HTTP/1.') else None
    except (OSError, ValueError):
        return None


class Server:
    """A server process of its own session. Use as a context manager: leaving it ends the whole tree."""

    def __init__(self, argv, port, log_path, ready_path='/health', environment=None):
        self.argv, self.port, self.ready_path = [str(a) for a in argv], port, ready_path
        self.log_path, self.environment = pathlib.Path(log_path), environment
        self.process, self.ready_ms = None, None

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f'http://127.0.0.1:{self.port}'

    def __enter__(self):
        with open(self.log_path, 'wb') as log:
            start = time.perf_counter()
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                            env=self.environment)
        try:
            self._wait_ready(start)
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_ready(self, start, timeout_s=60):
        while _status(self.port, self.ready_path) != 200:
            if self.process.poll() is not None:
                raise MeasureError(f'{self.argv[0]} ended with {self.process.returncode} before it was ready: {self.log_tail()}')
            if time.perf_counter() - start > timeout_s:
                raise MeasureError(f'{self.argv[0]} was not ready within {timeout_s} s: {self.log_tail()}')
            time.sleep(0.001)
        self.ready_ms = (time.perf_counter() - start) * 1000

    def log_tail(self):
        try:
            return ' | '.join(self.log_path.read_text(errors='replace').splitlines()[-4:])
        except OSError:
            return 'no log'

    def kill(self):
        """SIGKILL to the whole tree at once: what a crash or the kernel's memory killer does."""
        self._kill(tree(self.pid))
        self.process.wait()

    def _kill(self, members):
        for p in members:
            # Only what is still of the session that __enter__ made: an id may be somebody else's by now.
            try:
                if os.getsid(p) == self.pid:
                    os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def stop(self):
        """SIGTERM, some time, then SIGKILL to every process of the tree."""
        members = tree(self.pid)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                members = tree(self.pid)
        self._kill(members)
        self.process.wait()

    def __exit__(self, *_):
        self.stop()


def run(argv, timeout_s, log_path=None):
    """Runs to the end; stdout. Raises MeasureError with the last lines when it fails."""
    try:
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=timeout_s, text=True, errors='replace')
    except subprocess.TimeoutExpired:
        raise MeasureError(f'{argv[0]} did not end within {timeout_s} s') from None
    except OSError as error:
        raise MeasureError(f'{argv[0]}: {error}') from None
    if log_path:
        pathlib.Path(log_path).write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        tail = ' | '.join((done.stderr or done.stdout).splitlines()[-4:])
        raise MeasureError(f'{argv[0]} ended with {done.returncode}: {tail}')
    return done.stdout


def warm(*paths):
    """Reads files, so that they are in the page cache."""
    for path in paths:
        with open(path, 'rb') as file:
            while file.read(1 << 22):
                pass
