"""Files from the network: whole or absent, resumed after a break, compared with their checksum."""

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

__all__ = ['AbsentError', 'DownloadError', 'by_hand', 'download', 'require_checksum']

PAUSES = (1.0, 4.0, 16.0)
"""Seconds to wait before a broken transfer is resumed, so often at most in a row without a byte."""

STEPS = 10
"""How often progress is reported."""

Report = Callable[[str], None]
Check = Callable[[Path], None]


def download(address: str, path: Path, checksum: str, report: Report, check: Check | None = None) -> None:
    """Fetch a file.

    What has come so far is kept beside it, with ``.part`` at its end, and its version on the server with ``.version``.

    Args:
        address: of the file.
        path: to write; its folder must exist.
        checksum: see `require_checksum`.
        report: gets lines on progress.
        check: raises a `DownloadError` if the file that came cannot be the one that was asked for.

    Raises:
        DownloadError: if it cannot be fetched, with what to do by hand; or if it is damaged.
        AbsentError: if the server has no such file.
        OSError: if it cannot be written.
    """
    part = path.with_name(f'{path.name}.part')
    if not checksum and not version_file(part).is_file():
        part.unlink(missing_ok=True)  # nothing would tell whether the rest belongs to it
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
                f'{address}: {error}; nothing is kept. Fix: try again; if it stays so, the server has another file '
                f'than the published one, or something answers in its place: fetch it by hand and put it there: {path}'
            ) from None
        report(f'{path.name}: what an earlier attempt had fetched does not fit; it is fetched from the start')
        download(address, path, checksum, report, check)
        return
    with open(part, 'rb') as stream:
        os.fsync(stream.fileno())  # after a power failure a renamed file could be empty otherwise
    os.replace(part, path)
    version_file(part).unlink(missing_ok=True)


def require_checksum(path: Path, checksum: str) -> None:
    """Compare a file with its checksum.

    Args:
        path: of the file.
        checksum: kind and beginning of the digest, such as ``md5:d8dbeb``; '' compares nothing.

    Raises:
        DownloadError: if it is another file.
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
    """Fetch what is missing, in as many attempts as bring something."""
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
            report(f'{path.name}: the transfer broke after {now / 1e6:.1f} MB ({error}); it goes on from there')
            time.sleep(pause)


def by_hand(address: str, path: Path, reason: str) -> str:
    """What to do without a network.

    Args:
        address: that cannot be reached.
        path: where the file is expected.
        reason: why it cannot.
    """
    return f'{address} cannot be fetched ({reason}). Fix: fetch it by hand and put it there: {path}'


def _fetch(address: str, part: Path, report: Report) -> None:
    """One attempt; what comes is added to the part.

    Raises:
        BrokenError: if the transfer ends early or does not begin.
        DownloadError: if the server refuses.
        OSError: if the disk does.
    """
    answer = ask(address, part)
    if answer is None:  # the part is the whole file already
        return
    with answer.response:
        _require_room(part, answer)
        try:
            if not answer.start:
                part.write_bytes(b'')  # before the note of a version that it is no part of
            keep_version(part, answer)
            size = _save(answer, part, report)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                f'{part}: could not be written ({reason}); what has come is kept. Fix: make room, or set '
                'MMMASKFORMER_CACHE to a folder on another disk'
            ) from None
        except BrokenError as error:
            if answer.decoder is None:
                raise
            discard(part)  # what is compressed cannot go on in the middle
            raise BusyError(str(error)) from None
    if answer.total is not None and size < answer.total:
        raise BrokenError(f'{size} of {answer.total} bytes came')


def _save(answer: Answer, part: Path, report: Report) -> int:
    """Write what comes; the size of the part afterwards."""
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
            'MB are free; nothing is fetched. Fix: make room, or set MMMASKFORMER_CACHE to a folder on another disk'
        )
