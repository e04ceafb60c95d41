"""One request for a file or the rest of it, and what a server may answer."""

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
"""Answers of servers that may serve the file a moment later."""

COMPRESSED = {'gzip': 16 + zlib.MAX_WBITS, 'x-gzip': 16 + zlib.MAX_WBITS, 'deflate': zlib.MAX_WBITS}
"""Encodings in which some servers send a file unasked, and what `zlib` needs to undo them."""


class DownloadError(OSError):
    """A file that could not be fetched; what had come of it is kept and the next attempt resumes it."""


class AbsentError(DownloadError):
    """A file that the server does not have."""


class BrokenError(Exception):
    """A transfer that ended early, or did not begin."""


class BusyError(BrokenError):
    """A transfer that may succeed from the start a moment later."""


class Answer(NamedTuple):
    """What a server sends.

    Attributes:
        response: to be read and closed.
        start: where in the file it begins.
        total: bytes of the file; None if the server does not say.
        decoder: of `zlib`, if the server compresses what it sends.
    """

    response: http.client.HTTPResponse
    start: int
    total: int | None
    decoder: Any


def ask(address: str, part: Path) -> Answer | None:
    """Ask for what is missing.

    Args:
        address: of the file.
        part: what has come so far; discarded if it is no part of the file on the server.

    Returns:
        None if nothing is missing.

    Raises:
        BrokenError: if nobody answers.
        DownloadError: if the server refuses.
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
            discard(part)  # longer than the file: of something else
            return ask(address, part)
        reason = ' '.join(f'HTTP {error.code} {error.reason}'.split())
        if error.code in BUSY:
            raise BusyError(reason) from None
        kind = AbsentError if error.code in (404, 410) else DownloadError
        raise kind(
            f'{address}: the server answers {reason}. Fix: look for the file at its publisher, and put it there: '
            f'{part.with_name(part.name.removesuffix(".part"))}'
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BrokenError(str(getattr(error, 'reason', error)) or type(error).__name__) from None
    return _answer(address, part, response, start)


def _answer(address: str, part: Path, response: http.client.HTTPResponse, start: int) -> Answer | None:
    decoder = _decoder(address, response)
    if response.status != 206:  # the server sends all of it, whatever was asked for
        length = response.headers.get('Content-Length', '')
        return Answer(response, 0, int(length) if length.isdigit() and decoder is None else None, decoder)
    span, _, total = str(response.headers.get('Content-Range', '')).removeprefix('bytes ').partition('/')
    if span.partition('-')[0] == str(start) and decoder is None:
        return Answer(response, start, int(total) if total.isdigit() else None, None)
    response.close()
    if not start:
        raise DownloadError(
            f'{address}: the server sends a part of the file, which nobody asked for (Content-Range: {span}/{total}). '
            f'Fix: fetch it by hand and put it there: {part.with_name(part.name.removesuffix(".part"))}'
        )
    discard(part)  # the rest of something else
    return ask(address, part)


def _decoder(address: str, response: http.client.HTTPResponse) -> Any:
    """What undoes the compression of an answer; None if there is none."""
    encoding = str(response.headers.get('Content-Encoding') or 'identity').strip().lower()
    if encoding == 'identity':
        return None
    if encoding not in COMPRESSED:
        response.close()
        raise DownloadError(
            f'{address}: the server sends it with Content-Encoding: {encoding}, expected none of '
            f'{", ".join(COMPRESSED)}. Fix: fetch it by hand, see the folder that mmmaskformer models --details names'
        )
    return zlib.decompressobj(COMPRESSED[encoding])


def blocks(answer: Answer) -> Iterator[bytes]:
    """What comes, without its compression.

    Args:
        answer: of `ask`.

    Raises:
        BrokenError: after the last block of a transfer that ended early.
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
    """Where the version on the server is kept of the file that a part belongs to.

    Args:
        part: its name ends in ``.part``.
    """
    return part.with_name(f'{part.name.removesuffix(".part")}.version')


def keep_version(part: Path, answer: Answer) -> None:
    """Note which version of the file is on the server, so that the rest of another one is never added to a part.

    Args:
        part: that the answer is written to.
        answer: of `ask`.
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
    """Remove a part, and the note of its version.

    Args:
        part: need not exist.
    """
    part.unlink(missing_ok=True)
    version_file(part).unlink(missing_ok=True)
