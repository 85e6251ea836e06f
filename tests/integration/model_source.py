"""A server that speaks the Hugging Face hub's and an Ollama registry's protocol, for tests: real sockets, faults on demand."""
import hashlib
import http.server
import json
import os
import re
import socket
import socketserver
import threading
import urllib.parse

COMMIT = '0123456789abcdef0123456789abcdef01234567'


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class ModelSource(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """`files`: path in the hub's repository org/repo, or path of a plain URL → bytes (or a file's path)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files=None, layers=None, token=None, registry_token=None, address='127.0.0.1', tls=None):
        self.files = files or {}
        self.layers = layers or []   # (media type, bytes)
        self.token = token           # what the hub wants to be told
        self.registry_token = registry_token
        self.realm = None            # another one than ours
        self.manifest = None         # instead of what layers say
        self.blob_host = None        # another origin the hub redirects large files to
        self.seen = []               # (path, headers)
        self.cut_after = None        # bytes of every body, then the connection ends
        self.throttle = None         # an Event: bodies stop half-way until it is set
        self.blobs = {}              # what was pushed: digest → bytes
        self.manifests = {}          # path → bytes
        self.uploads = {}            # id → bytes
        self.faults = []             # (method, what): 'cut', 'wrong digest' or a status, each for one request
        super().__init__((address, 0), Handler)
        self.scheme = 'http'
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.scheme = 'https'
        self.thread = threading.Thread(target=self.serve_forever, kwargs={'poll_interval': 0.01})
        self.thread.start()

    @property
    def authority(self):
        return f'{self.server_address[0]}:{self.server_address[1]}'

    @property
    def url(self):
        return f'{self.scheme}://{self.authority}'

    def handle_error(self, request, client_address):
        pass  # clients that leave are what tests are about

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.throttle:
            self.throttle.set()
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        self.server.seen.append((self.path, dict(self.headers)))
        path = urllib.parse.unquote(parts.path)
        if path.startswith('/api/models/'):
            return self.hub_listing(path)
        resolve = re.fullmatch(r'/[^/]+/[^/]+/resolve/([^/]+)/(.+)', path)
        if resolve:
            return self.hub_resolve(resolve[1], resolve[2])
        if path.startswith('/v2/'):
            return self.registry(path)
        if path == '/token':
            return self.send(200, json.dumps({'token': self.server.registry_token}).encode())
        name = path.rsplit('/', 1)[1]
        if name in self.server.files:
            return self.send_ranges(self.content(name))
        return self.send(404, b'nothing here')

    def fault(self):
        for fault in self.server.faults:
            if fault[0] == self.command:
                self.server.faults.remove(fault)
                return fault[1]
        return None

    def read_body(self):
        return self.rfile.read(int(self.headers.get('Content-Length', 0)))

    # Pushing: is it there, where to, pieces, it is whole, the manifest.
    def do_HEAD(self):
        self.server.seen.append((self.path, dict(self.headers)))
        if not self.authorized(self.server.registry_token):
            return self.challenge()
        digest = self.path.rsplit('/', 1)[1]
        return self.send(200 if digest in self.server.blobs else 404, b'')

    def do_POST(self):
        self.server.seen.append((self.path, dict(self.headers)))
        self.read_body()
        if not self.authorized(self.server.registry_token):
            return self.challenge()
        if (fault := self.fault()) is not None:
            return self.send(fault, b'')
        name = f'u{len(self.server.uploads)}'
        self.server.uploads[name] = b''
        return self.send(202, b'', {'Location': f'/v2/uploads/{name}'})

    def do_PATCH(self):
        self.server.seen.append((self.path, dict(self.headers)))
        fault = self.fault()
        if fault == 'cut':
            self.server.uploads[self.path.rsplit('/', 1)[1].split('?')[0]] += self.rfile.read(10)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        body = self.read_body()
        if fault is not None:
            return self.send(fault, b'')
        name = self.path.rsplit('/', 1)[1].split('?')[0]
        self.server.uploads[name] += body
        return self.send(202, b'', {'Location': f'/v2/uploads/{name}?at={len(self.server.uploads[name])}'})

    def do_PUT(self):
        self.server.seen.append((self.path, dict(self.headers)))
        body = self.read_body()
        if not self.authorized(self.server.registry_token):
            return self.challenge()
        parts = urllib.parse.urlsplit(self.path)
        if '/manifests/' in parts.path:
            self.server.manifests[parts.path] = body
            return self.send(201, b'')
        data = self.server.uploads[parts.path.rsplit('/', 1)[1]]
        digest = urllib.parse.parse_qs(parts.query)['digest'][0]
        if digest != f'sha256:{sha256(data)}':
            return self.send(400, b'')
        if self.fault() == 'wrong digest':
            return self.send(201, b'', {'Docker-Content-Digest': 'sha256:' + '0' * 64})
        self.server.blobs[digest] = data
        return self.send(201, b'', {'Docker-Content-Digest': digest})

    def challenge(self):
        realm = self.server.realm or f'{self.server.url}/token'
        return self.send(401, b'', {'WWW-Authenticate': f'Bearer realm="{realm}",service="x",scope="repository:m:pull"'})

    def content(self, name):
        value = self.server.files[name]
        return value if isinstance(value, bytes) else open(value, 'rb').read()

    def authorized(self, token):
        return token is None or self.headers.get('Authorization') == f'Bearer {token}'

    def hub_listing(self, path):
        if not self.authorized(self.server.token):
            return self.send(401, b'{}')
        if not path.startswith('/api/models/org/repo/revision/'):
            return self.send(404, b'{}')
        siblings = []
        for name in self.server.files:
            data = self.content(name)
            entry = {'rfilename': name, 'size': len(data), 'blobId': 'b' * 40}
            if name.endswith(('.gguf', '.safetensors')):
                entry['lfs'] = {'sha256': sha256(data), 'size': len(data), 'pointerSize': 100}
            siblings.append(entry)
        return self.send(200, json.dumps({'id': 'org/repo', 'sha': COMMIT, 'siblings': siblings}).encode())

    def hub_resolve(self, revision, name):
        if not self.authorized(self.server.token):
            return self.send(401, b'')
        if revision not in (COMMIT, 'main') or name not in self.server.files:
            return self.send(404, b'')
        data = self.content(name)
        if self.server.blob_host and name.endswith('.gguf'):
            headers = {'Location': f'{self.server.blob_host}/{name}?signature=secret', 'X-Linked-Etag': f'"{sha256(data)}"',
                       'X-Linked-Size': str(len(data))}
            return self.send(302, b'', headers)
        return self.send_ranges(data)

    def registry(self, path):
        if not self.authorized(self.server.registry_token):
            return self.challenge()
        if path in self.server.manifests:
            return self.send(200, self.server.manifests[path])
        if path.startswith('/v2/uploads/') and path.rsplit('/', 1)[1] in self.server.uploads:
            come = len(self.server.uploads[path.rsplit('/', 1)[1]])
            return self.send(204, b'', {'Range': f'0-{max(come - 1, 0)}', 'Location': path})
        if path.rsplit('/', 1)[1] in self.server.blobs:
            return self.send_ranges(self.server.blobs[path.rsplit('/', 1)[1]])
        if '/manifests/' in path:
            if self.server.manifest is not None:
                return self.send(200, self.server.manifest)
            if not re.fullmatch(r'/v2/ns/model/manifests/(latest|tiny)', path):
                return self.send(404, b'{}')
            layers = [{'mediaType': kind, 'digest': f'sha256:{sha256(data)}', 'size': len(data)} for kind, data in self.server.layers]
            return self.send(200, json.dumps({'schemaVersion': 2, 'layers': layers}).encode())
        for _, data in self.server.layers:
            if path == f'/v2/ns/model/blobs/sha256:{sha256(data)}':
                return self.send_ranges(data)
        return self.send(404, b'')

    def send_ranges(self, data):
        tag = f'"{sha256(data)[:16]}"'
        wanted = re.fullmatch(r'bytes=(\d+)-(\d+)', self.headers.get('Range', ''))
        if not wanted or self.headers.get('If-Range', tag) != tag:
            return self.send(200, data, {'ETag': tag})
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first >= len(data):
            return self.send(416, b'', {'Content-Range': f'bytes */{len(data)}'})
        return self.send(206, data[first:last + 1], {'ETag': tag, 'Content-Range': f'bytes {first}-{last}/{len(data)}'})

    def send(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.server.cut_after is not None and len(body) > self.server.cut_after:
            self.wfile.write(body[:self.server.cut_after])
            self.close_connection = True
            return
        if self.server.throttle is not None and status in (200, 206) and len(body) > 1 << 16:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.server.throttle.wait()
            body = body[half:]
        self.wfile.write(body)
