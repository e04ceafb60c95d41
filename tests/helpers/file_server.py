"""A file server on loopback that can break transfers the way real servers do."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """A server with files and the faults of its next responses.

    Attributes:
        address: of the server, with a trailing slash.
        files: path without a slash to content.
        faults: path to the faults of its next responses: 'break' closes the connection halfway, 'busy' answers 503,
            'whole' sends the complete file although a range was requested, 'stall' waits for `gate`, 'page' answers
            with an HTML page, 'later' sends a range that begins 5 bytes too late, 'gzip' and 'gzip break' compress,
            'chunks' and 'chunks break' omit the length, 'short' reports half of the length, 'brotli' names an
            unsupported encoding; a path with a leading slash redirects there.
        versions: path to the version, sent as the header ETag.
        requests: path and range of every request.
        gate: see ``faults``.
    """

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.versions: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.gate = threading.Event()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        name, span = handler.path.lstrip('/'), handler.headers.get('Range')
        self.requests.append((name, span))
        faults = self.faults.get(name)
        fault = faults.pop(0) if faults else ''
        content = self.files.get(name)
        if fault == 'stall':
            self.gate.wait(60)
        if fault.startswith('/'):
            handler.send_response(302)
            handler.send_header('Location', fault)
            handler.send_header('Content-Length', '0')
            handler.end_headers()
            return
        if content is None or fault == 'busy':
            handler.send_error(404 if content is None else 503)
            return
        if fault.startswith(('gzip', 'chunks', 'page', 'short', 'brotli')):
            self._send_otherwise(handler, content, fault)
            return
        asked = handler.headers.get('If-Range')
        if fault == 'whole' or (asked is not None and asked != f'"{self.versions.get(name)}"'):
            span = None
        start = int(span.removeprefix('bytes=').removesuffix('-')) + 5 * (fault == 'later') if span else 0
        if start >= len(content):
            handler.send_response(416)
            handler.send_header('Content-Range', f'bytes */{len(content)}')
            handler.send_header('Content-Length', '0')
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        rest = content[start:]
        if name in self.versions:
            handler.send_header('ETag', f'"{self.versions[name]}"')
        handler.send_header('Content-Length', str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: len(rest) // 2] if fault == 'break' else rest)

    def _send_otherwise(self, handler: BaseHTTPRequestHandler, content: bytes, fault: str) -> None:
        """Send a complete file, with the given encoding or length."""
        kind, _, breaks = fault.partition(' ')
        content = b'<!DOCTYPE html><title>Sign in</title>' if kind == 'page' else content
        content = gzip.compress(content) if kind == 'gzip' else content
        handler.send_response(200)
        if kind in ('gzip', 'brotli'):
            handler.send_header('Content-Encoding', {'gzip': 'gzip', 'brotli': 'br'}[kind])
        if kind == 'chunks':
            handler.send_header('Transfer-Encoding', 'chunked')
        else:
            handler.send_header('Content-Length', str(len(content) // 2 if kind == 'short' else len(content)))
        handler.end_headers()
        sent = content[: len(content) // 2] if breaks or kind == 'short' else content
        if kind == 'chunks':
            for begin in range(0, len(sent), 1 << 14):
                block = sent[begin : begin + (1 << 14)]
                handler.wfile.write(b'%x\r\n%s\r\n' % (len(block), block))
            handler.wfile.write(b'' if breaks else b'0\r\n\r\n')
        else:
            handler.wfile.write(sent)


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'  # clients do not accept chunks with HTTP/1.0

        def do_GET(self):  # noqa: N802 - the name that the base class calls
            self.close_connection = True
            server.answer(self)

        def log_message(self, *_):
            pass

    listener = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server = FileServer(f'http://127.0.0.1:{listener.server_port}/')
    thread = threading.Thread(target=listener.serve_forever, kwargs=dict(poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        listener.shutdown()
        listener.server_close()
        thread.join()
