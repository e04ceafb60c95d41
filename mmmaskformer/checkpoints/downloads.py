"""Downloads of files: complete or absent, resumed after an interruption, compared with their checksum."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from mmmaskformer.checkpoints.transfers import (
    BLOCK,
    AbsentError,
    Answer,
    BrokenError,
    BusyError,
    DownloadError,
    ask,
    blocks,
    discard,
    keep_version,
    version_file,
)
from mmmaskformer.formats.whole_files import explaining, require_writable

__all__ = ['AbsentError', 'DownloadError', 'by_hand', 'download', 'require_checksum']

PAUSES = (1.0, 4.0, 16.0)
"""Seconds to wait before each retry of a broken transfer; the count starts again when bytes arrive."""

STEPS = 10
"""Number of progress reports per file."""

Report = Callable[[str], None]
Check = Callable[[Path], None]


def download(address: str, path: Path, checksum: str, report: Report, check: Check | None = None) -> None:
    """Download a file; an interrupted download is resumed.

    An unfinished download is kept beside the file as ``PATH.part``, and its version on the server as ``PATH.version``.

    Args:
        address: URL of the file.
        path: where to write it; the folder must exist.
        checksum: see `require_checksum`.
        report: called with progress messages.
        check: raises a `DownloadError` if the downloaded file cannot be the requested one.

    Raises:
        DownloadError: if the download fails or its checksum differs.
        AbsentError: if the server does not have the file.
        OSError: if it cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    require_writable(path)
    if not checksum and not version_file(part).is_file():
        part.unlink(missing_ok=True)  # nothing would show whether the rest belongs to it
    resumed = part.exists()
    _fetch_all(address, part, path, report)
    try:
        if check is not None:
            check(part)
        require_checksum(part, checksum)
    except DownloadError as error:
        discard(part)
        if not resumed:
            raise DownloadError(
                f'{address}: {error}; nothing is kept. Fix: try again; if it fails again, the file on the server is '
                f'not the published one, or another server answers in its place: download it by hand and save it as '
                f'{path}'
            ) from None
        report(f'{path.name}: the part of an earlier attempt does not match; downloading from the start')
        download(address, path, checksum, report, check)
        return
    with open(part, 'rb') as stream:
        os.fsync(stream.fileno())  # otherwise the renamed file could be empty after a power failure
    os.replace(part, path)
    version_file(part).unlink(missing_ok=True)


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
        except BrokenError as error:
            now = part.stat().st_size if part.exists() else 0
            if now > before:
                pauses = iter(PAUSES)
            pause = next(pauses, None)
            if pause is None or (now == 0 and not isinstance(error, BusyError)):
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
        BrokenError: if the transfer ends early or does not begin.
        DownloadError: if the server refuses the request.
        OSError: if the file cannot be written.
    """
    answer = ask(address, part)
    if answer is None:  # the part is already complete
        return
    path = part.with_name(part.name.removesuffix('.part'))
    with answer.response:
        _require_room(part, answer)
        try:
            with explaining(path, part):
                if not answer.start:
                    part.write_bytes(b'')  # before the version of another file is noted
                keep_version(part, answer)
                size = _save(answer, part, report)
        except BrokenError as error:
            if answer.decoder is None:
                raise
            discard(part)  # a compressed transfer cannot be resumed
            raise BusyError(str(error)) from None
    if answer.total is not None and size < answer.total:
        raise BrokenError(f'{size} of {answer.total} bytes arrived')


def _save(answer: Answer, part: Path, report: Report) -> int:
    """Write what arrives; return the size of the part afterwards."""
    name, shown = part.name.removesuffix('.part'), answer.start
    with open(part, 'r+b' if answer.start else 'wb') as stream:
        stream.truncate(answer.start)
        stream.seek(answer.start)
        for block in blocks(answer):
            stream.write(block)
            if answer.total and (stream.tell() - shown) * STEPS >= answer.total:
                shown = stream.tell()
                report(f'{name}: {100 * shown // answer.total} % of {answer.total / 1e6:.1f} MB')
        return stream.tell()


def _require_room(part: Path, answer: Answer) -> None:
    """Raise an `OSError` if the disk has no room for the rest of the file."""
    needed = (answer.total or 0) - answer.start
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(
            f'{part.parent}: {needed / 1e6:.0f} MB are needed for {part.name.removesuffix(".part")}, {free / 1e6:.0f} '
            'MB are free; nothing is downloaded. Fix: free space, or set MMMASKFORMER_CACHE to a folder on another disk'
        )
