"""One file over HTTP on the loopback: whole, or the range that is asked for. Bytes go from the page cache to the socket, so that whoever
fetches is what is measured."""
import http.server
import os
import pathlib
import re
import socketserver
import threading


class FileServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A context manager; `url` is the file's."""

    daemon_threads = True

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.etag = f'"{self.path.stat().st_size}-{self.path.stat().st_mtime_ns}"'
        super().__init__(('127.0.0.1', 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.05})

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_address[1]}/{self.path.name}'

    def handle_error(self, request, client_address):
        pass  # a client that leaves early is its own affair, and shows in what it says

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
        self.thread.join()


def range_of(header, size):
    """(begin, end) of what is asked for; None where it is not a range of the file."""
    if not header:
        return 0, size
    asked = re.fullmatch(r'bytes=(\d+)-(\d*)', header)
    if not asked:
        return None
    begin, end = int(asked[1]), int(asked[2]) + 1 if asked[2] else size
    return (begin, min(end, size)) if begin < min(end, size) else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def do_GET(self):
        size, asked = self.server.path.stat().st_size, self.headers.get('Range')
        part = range_of(asked, size)
        if self.path != f'/{self.server.path.name}' or part is None:
            self.send_response(416 if part is None else 404)
            self.send_header('Content-Length', '0')
            return self.end_headers()
        begin, end = part
        self.send_response(206 if asked else 200)
        self.send_header('Content-Length', str(end - begin))
        self.send_header('ETag', self.server.etag)
        self.send_header('Accept-Ranges', 'bytes')
        if asked:
            self.send_header('Content-Range', f'bytes {begin}-{end - 1}/{size}')
        self.end_headers()
        self.wfile.flush()
        with self.server.path.open('rb') as file:
            while begin < end:
                begin += os.sendfile(self.connection.fileno(), file.fileno(), begin, end - begin)
