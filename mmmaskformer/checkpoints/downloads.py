"""Files from the network: whole or absent, resumed after a break, compared with their checksum."""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mmmaskformer.formats.whole_files import explaining, require_writable

BLOCK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

PAUSES = (1.0, 4.0, 16.0)
"""Seconds to wait before each retry of a broken transfer; the count starts again when bytes arrive."""

BUSY = (408, 429, 500, 502, 503, 504)
"""HTTP status codes of servers that may serve the file a moment later."""

STEPS = 10
"""Number of progress reports per file."""

Report = Callable[[str], None]


class DownloadError(OSError):
    """A file could not be downloaded; the part that arrived is kept, and the next attempt resumes it."""


class AbsentError(DownloadError):
    """The server does not have the file."""


class _BrokenError(Exception):
    """A transfer ended early or did not begin."""


class _BusyError(_BrokenError):
    """The server is busy and may serve the file a moment later."""


class _Answer(NamedTuple):
    response: http.client.HTTPResponse
    start: int
    total: int | None


def download(address: str, path: Path, checksum: str, report: Report) -> None:
    """Download a file; an interrupted download is resumed.

    Args:
        address: URL of the file.
        path: where to write it; the folder must exist. An unfinished download is kept beside it as ``PATH.part``.
        checksum: see `require_checksum`.
        report: called with progress messages.

    Raises:
        DownloadError: if the download fails or its checksum differs.
        AbsentError: if the server does not have the file.
        OSError: if it cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    require_writable(path)
    resumed = part.exists()
    _fetch_all(address, part, path, report)
    try:
        require_checksum(part, checksum)
    except DownloadError as error:
        part.unlink()
        if not resumed:
            raise DownloadError(
                f'{address}: {error}; nothing is kept. Fix: try again; if the checksum differs again, the file on the '
                'server is not the published one'
            ) from None
        report(f'{path.name}: the part of an earlier attempt has a wrong checksum; downloading from the start')
        download(address, path, checksum, report)
        return
    with open(part, 'rb') as stream:
        os.fsync(stream.fileno())  # otherwise the renamed file could be empty after a power failure
    os.replace(part, path)


def require_checksum(path: Path, checksum: str) -> None:
    """Compare a file with its checksum.

    Args:
        path: the file.
        checksum: algorithm and first digits of the digest, such as ``md5:d8dbeb``; '' skips the comparison.

    Raises:
        DownloadError: if the checksum differs.
    """
    kind, _, wanted = checksum.partition(':')
    if not wanted:
        return
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, 'rb') as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    if not found.startswith(wanted):
        raise DownloadError(f'{path.name} has {kind} {found[: len(wanted)]}…, expected {wanted}…')


def _fetch_all(address: str, part: Path, path: Path, report: Report) -> None:
    """Download the missing part, retrying as long as attempts make progress."""
    pauses = iter(PAUSES)
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch(address, part, report)
            return
        except _BrokenError as error:
            now = part.stat().st_size if part.exists() else 0
            if now > before:
                pauses = iter(PAUSES)
            pause = next(pauses, None)
            if pause is None or (now == 0 and not isinstance(error, _BusyError)):
                raise DownloadError(by_hand(address, path, str(error))) from None
            report(f'{path.name}: the transfer broke after {now / 1e6:.1f} MB ({error}); resuming from there')
            time.sleep(pause)


def by_hand(address: str, path: Path, reason: str) -> str:
    """The message that explains how to install a file by hand.

    Args:
        address: URL that cannot be reached.
        path: where the file is expected.
        reason: why the download failed.
    """
    return f'{address} cannot be downloaded ({reason}). Fix: download it by hand and save it as {path}'


def _fetch(address: str, part: Path, report: Report) -> None:
    """Make one attempt; what arrives is appended to the part.

    Raises:
        _BrokenError: if the transfer ends early or does not begin.
        DownloadError: if the server refuses.
    """
    answer = _ask(address, part)
    if answer is None:  # the part is already complete
        return
    path, shown = part.with_name(part.name.removesuffix('.part')), answer.start
    with answer.response:
        _require_room(part, answer)
        with explaining(path, part), open(part, 'r+b' if answer.start else 'wb') as stream:
            stream.truncate(answer.start)
            stream.seek(answer.start)
            while block := _read(answer.response):
                stream.write(block)
                if answer.total and (stream.tell() - shown) * STEPS >= answer.total:
                    shown = stream.tell()
                    report(f'{path.name}: {100 * shown // answer.total} % of {answer.total / 1e6:.1f} MB')
            size = stream.tell()
    if answer.total is not None and size < answer.total:
        raise _BrokenError(f'{size} of {answer.total} bytes arrived')


def _ask(address: str, part: Path) -> _Answer | None:
    """Request the missing part; None if nothing is missing."""
    start = part.stat().st_size if part.exists() else 0
    headers = {'User-Agent': 'mmmaskformer', 'Accept-Encoding': 'identity'}
    request = urllib.request.Request(address, headers=headers | ({'Range': f'bytes={start}-'} if start else {}))
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:
            total = str(error.headers.get('Content-Range', '')).rpartition('/')[2]
            if total == str(start):
                return None
            part.unlink()  # longer than the file: a part of something else
            return _ask(address, part)
        if error.code in BUSY:
            raise _BusyError(f'HTTP {error.code} {error.reason}') from None
        kind = AbsentError if error.code in (404, 410) else DownloadError
        raise kind(
            f'{address}: the server answers HTTP {error.code} {error.reason}. Fix: find the file at its publisher and '
            f'save it as {part.with_name(part.name.removesuffix(".part"))}'
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(getattr(error, 'reason', error)) or type(error).__name__) from None
    return _answer(response, start)


def _answer(response: http.client.HTTPResponse, start: int) -> _Answer:
    length = response.headers.get('Content-Length', '')
    if response.status != 206:  # the server sends the whole file, whatever range was requested
        return _Answer(response, 0, int(length) if length.isdigit() else None)
    span, _, total = str(response.headers.get('Content-Range', '')).removeprefix('bytes ').partition('/')
    first = span.partition('-')[0]
    begin = int(first) if first.isdigit() and int(first) <= start else start
    return _Answer(response, begin, int(total) if total.isdigit() else None)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from None


def _require_room(part: Path, answer: _Answer) -> None:
    """Raise an `OSError` if the disk has no room for the rest of the file."""
    needed = (answer.total or 0) - answer.start
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(
            f'{part.parent}: {needed / 1e6:.0f} MB are needed for {part.name.removesuffix(".part")}, {free / 1e6:.0f} '
            'MB are free; nothing is downloaded. Fix: free space, or set MMMASKFORMER_CACHE to a folder on another disk'
        )
