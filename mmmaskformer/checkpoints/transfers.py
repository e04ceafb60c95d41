"""One request for a file or its missing part, and the responses of servers."""

import http.client
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

BUSY = (408, 429, 500, 502, 503, 504)
"""HTTP status codes of servers that may serve the file a moment later."""

COMPRESSED = {'gzip': 16 + zlib.MAX_WBITS, 'x-gzip': 16 + zlib.MAX_WBITS, 'deflate': zlib.MAX_WBITS}
"""Encodings that some servers use without a request, with the argument of `zlib` that decodes them."""


class DownloadError(OSError):
    """A file could not be downloaded; the part that arrived is kept, and the next attempt resumes it."""


class AbsentError(DownloadError):
    """The server does not have the file."""


class BrokenError(Exception):
    """A transfer ended early or did not begin."""


class BusyError(BrokenError):
    """A transfer may succeed from the start a moment later."""


class Answer(NamedTuple):
    """The response of a server.

    Attributes:
        response: the response, to be read and closed.
        start: position in the file at which it begins.
        total: size of the file in bytes; None if the server does not state it.
        decoder: object of `zlib` if the response is compressed, else None.
    """

    response: http.client.HTTPResponse
    start: int
    total: int | None
    decoder: Any


def ask(address: str, part: Path) -> Answer | None:
    """Request the missing part of a file.

    Args:
        address: URL of the file.
        part: the part that arrived; discarded if it does not belong to the file on the server.

    Returns:
        None if nothing is missing.

    Raises:
        BrokenError: if the server does not answer; `BusyError` if it is busy.
        DownloadError: if the server refuses the request, or its answer cannot be used.
        AbsentError: if it has no such file.
    """
    start = part.stat().st_size if part.exists() else 0
    headers = {'User-Agent': 'mmmaskformer', 'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
        if version_file(part).is_file():  # with another version the server sends all of it
            headers['If-Range'] = version_file(part).read_text(encoding='utf-8')
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            total = str(error.headers.get('Content-Range', '')).rpartition('/')[2]
            if total == str(start):
                return None
            discard(part)  # longer than the file: a part of something else
            return ask(address, part)
        reason = ' '.join(f'HTTP {error.code} {error.reason}'.split())
        if error.code in BUSY:
            raise BusyError(reason) from None
        kind = AbsentError if error.code in (404, 410) else DownloadError
        raise kind(
            f'{address}: the server answers {reason}. Fix: find the file at its publisher and save it as '
            f'{part.with_name(part.name.removesuffix(".part"))}'
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BrokenError(str(getattr(error, 'reason', error)) or type(error).__name__) from None
    return _answer(address, part, response, start)


def _answer(address: str, part: Path, response: http.client.HTTPResponse, start: int) -> Answer | None:
    decoder = _decoder(address, response)
    if response.status != 206:  # the server sends the whole file, regardless of the requested range
        length = response.headers.get('Content-Length', '')
        return Answer(response, 0, int(length) if length.isdigit() and decoder is None else None, decoder)
    span, _, total = str(response.headers.get('Content-Range', '')).removeprefix('bytes ').partition('/')
    if span.partition('-')[0] == str(start) and decoder is None:
        return Answer(response, start, int(total) if total.isdigit() else None, None)
    response.close()
    if not start:
        raise DownloadError(
            f'{address}: the server sends only a part of the file (Content-Range: {span}/{total}), expected all of it. '
            f'Fix: download it by hand and save it as {part.with_name(part.name.removesuffix(".part"))}'
        )
    discard(part)  # the server sends a part that was not requested
    return ask(address, part)


def _decoder(address: str, response: http.client.HTTPResponse) -> Any:
    """The decoder for a compressed response; None if it is not compressed."""
    encoding = str(response.headers.get('Content-Encoding') or 'identity').strip().lower()
    if encoding == 'identity':
        return None
    if encoding not in COMPRESSED:
        response.close()
        raise DownloadError(
            f'{address}: the server sends it with Content-Encoding: {encoding}, expected none, or one of '
            f'{", ".join(COMPRESSED)}. Fix: download it by hand, see mmmaskformer models --details'
        )
    return zlib.decompressobj(COMPRESSED[encoding])


def blocks(answer: Answer) -> Iterator[bytes]:
    """Yield what arrives, decompressed.

    Args:
        answer: result of `ask`.

    Raises:
        BrokenError: if the connection breaks, the transfer ends early (after the last block) or its compression is
            damaged.
    """
    while True:
        broken = ''
        try:
            block = answer.response.read(BLOCK)
        except http.client.IncompleteRead as error:
            block, broken = error.partial, 'the connection was closed early'
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(str(error) or type(error).__name__) from None
        if answer.decoder is None:
            yield block
        else:
            try:
                yield answer.decoder.decompress(block)
            except zlib.error as error:
                raise BrokenError(f'its compression is damaged: {error}') from None
            if not block and not answer.decoder.eof:
                broken = 'the connection was closed early'
        if broken:
            raise BrokenError(broken)
        if not block:
            return


def version_file(part: Path) -> Path:
    """The file that stores which version of a file on the server a part belongs to.

    Args:
        part: its name ends in ``.part``.
    """
    return part.with_name(f'{part.name.removesuffix(".part")}.version')


def keep_version(part: Path, answer: Answer) -> None:
    """Store the version of the file on the server, so that the rest of another version is never appended to a part.

    Args:
        part: file to which the answer is written.
        answer: result of `ask`.
    """
    tag = str(answer.response.headers.get('ETag') or '').strip()
    version = tag if tag.startswith('"') else str(answer.response.headers.get('Last-Modified') or '').strip()
    if answer.start:
        return
    if version.isascii() and version.isprintable() and version and answer.decoder is None:
        version_file(part).write_text(version, encoding='utf-8')
    else:
        version_file(part).unlink(missing_ok=True)


def discard(part: Path) -> None:
    """Remove a part and its version.

    Args:
        part: file to remove; need not exist.
    """
    part.unlink(missing_ok=True)
    version_file(part).unlink(missing_ok=True)
