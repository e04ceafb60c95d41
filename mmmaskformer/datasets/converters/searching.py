"""Looks for the files of a data set, and says what is missing, where it should be and how to get it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ARCHIVES = ('.zip', '.tar')
LEVELS = 4
"""Above a missing folder in which an archive is looked for."""
SHOWN = 3


def require_folder(folder: Path, what: str, fix: str) -> None:
    """Check that a folder is there.

    Args:
        folder: absolute path.
        what: data set, for the message.
        fix: what to download or unpack, with the names of archives.

    Raises:
        FileNotFoundError: if it is not; such archives that lie above it, not unpacked, are named, and so is the folder
            that it lies in one level deeper.
    """
    if folder.is_dir():
        return
    near = (path for parent in folder.parents[:LEVELS] for path in _entries(parent))
    archives = [path for path in near if path.name.endswith(ARCHIVES) and path.name in fix]
    hint = f' Found, but not unpacked: {some(archives)}.' if archives else _deeper(folder)
    raise FileNotFoundError(f'{what}: found no folder {folder}, expected it.{hint} Fix: {fix}.')


def _deeper(path: Path) -> str:
    """A hint if what is missing lies one folder deeper, as where an archive got a folder of its own; '' if not."""
    for parent in path.parents[:LEVELS]:
        for folder in _entries(parent):
            if os.path.exists(folder / path.relative_to(parent)):  # False for folders of other users, too
                return f' Found it one folder deeper, in {folder}: move the content of that folder to {parent}.'
    return ''


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted; nothing if it is not there or may not be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def require_file(path: Path, what: str, fix: str) -> None:
    """Check that a file is there and is not empty.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it has no bytes.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{what}: found no file {path}, expected it.{_deeper(path)} Fix: {fix}.')
    if path.stat().st_size == 0:
        raise ValueError(f'{what}: {path} is empty (0 bytes), expected content. Fix: {fix}.')


class Listing(NamedTuple):
    """Files of one kind.

    Attributes:
        folder: that they lie in, at any depth.
        ending: of their names.
        paths: of the files, by their path below the folder without the ending, sorted.
    """

    folder: Path
    ending: str
    paths: dict[str, Path]


def list_files(folder: Path, ending: str) -> Listing:
    """Files below a folder that end so. Hidden ones are left out, such as those that macOS puts beside others.

    Args:
        folder: absolute path; subfolders are read too, also where they are links, as the data sets of a run do.
        ending: such as '.png'.
    """
    walk = os.walk(folder, followlinks=True)
    paths = sorted(
        Path(parent, name)
        for parent, _, names in walk
        for name in names
        if name.endswith(ending) and not name.startswith('.')
    )
    return Listing(folder, ending, {path.relative_to(folder).as_posix()[: -len(ending)]: path for path in paths})


def require_pairs(images: Listing, labels: Listing, what: str, fix: str) -> None:
    """Check that images and annotations have the same names.

    Args:
        images: of a split.
        labels: of the same split.
        what: data set, for the message.
        fix: what to do.

    Raises:
        ValueError: naming the first ones without a partner.
    """
    for these, those in ((images, labels), (labels, images)):
        lost = [name for name in these.paths if name not in those.paths]
        if lost:
            raise ValueError(
                f'{what}: {len(lost)} of the {len(these.paths)} files *{these.ending} in {these.folder} have no '
                f'*{those.ending} in {those.folder}: {some(lost)}. Expected one for each. Fix: {fix}.'
            )


def some(names: Iterable[object]) -> str:
    """The first of many names, for messages."""
    shown = [str(name) for name in names]
    return f'{", ".join(shown[:SHOWN])}{", ..." if len(shown) > SHOWN else ""}'
