"""A server on loopback for files, which may break transfers, as servers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Files by path, and what goes wrong with them.

    Attributes:
        address: of the server, with a slash at its end.
        files: path without a slash to content.
        faults: path to what goes wrong with its next requests: 'break' closes the connection in the middle of what is
            sent, 'busy' answers 503, 'whole' sends all of a file though a part was asked for, 'stall' waits for `gate`.
        requests: path and range of each request.
        gate: see ``faults``.
    """

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
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
        if content is None or fault == 'busy':
            handler.send_error(404 if content is None else 503)
            return
        start = int(span.removeprefix('bytes=').removesuffix('-')) if span and fault != 'whole' else 0
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
        handler.send_header('Content-Length', str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: len(rest) // 2] if fault == 'break' else rest)


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the name that the base class calls
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
