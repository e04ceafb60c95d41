"""Search for the files of a dataset, with messages on what is missing, where it should be and how to get it."""

import os
from pathlib import Path
from typing import NamedTuple

from mmmaskformer.formats.messages import some

ARCHIVES = ('.zip', '.tar')
LEVELS = 4
"""Number of parent folders in which an archive is searched if a folder is missing."""


def require_folder(folder: Path, what: str, fix: str) -> None:
    """Check that a folder exists.

    Args:
        folder: absolute path.
        what: dataset, for the message.
        fix: what to download or unpack, with the names of archives.

    Raises:
        FileNotFoundError: if it does not exist; the message names archives in its parent folders that are not unpacked,
            and the folder if it exists one level deeper.
    """
    if folder.is_dir():
        return
    near = (path for parent in folder.parents[:LEVELS] for path in _entries(parent))
    archives = [path for path in near if path.name.endswith(ARCHIVES) and path.name in fix]
    hint = f' Found, but not unpacked: {some(archives)}.' if archives else _deeper(folder)
    raise FileNotFoundError(f'{what}: the folder {folder} does not exist.{hint} Fix: {fix}.')


def _deeper(path: Path) -> str:
    """A hint if a missing path exists one folder deeper, as when an archive was unpacked into its own folder; or ''."""
    for parent in path.parents[:LEVELS]:
        for folder in _entries(parent):
            if os.path.exists(folder / path.relative_to(parent)):  # False for folders of other users, too
                return f' Found it one folder deeper, in {folder}: move the content of that folder to {parent}.'
    return ''


def _entries(folder: Path) -> list[Path]:
    """The sorted content of a folder; empty if it does not exist or is not readable."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def require_file(path: Path, what: str, fix: str) -> None:
    """Check that a file exists and is not empty.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it has no bytes.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{what}: the file {path} does not exist.{_deeper(path)} Fix: {fix}.')
    if path.stat().st_size == 0:
        raise ValueError(f'{what}: {path} is empty (0 bytes), expected content. Fix: {fix}.')


class Listing(NamedTuple):
    """Files of one kind.

    Attributes:
        folder: folder that contains them, at any depth.
        ending: suffix of their names.
        paths: sorted paths of the files, by their path below the folder without the suffix.
    """

    folder: Path
    ending: str
    paths: dict[str, Path]


def list_files(folder: Path, ending: str) -> Listing:
    """List the files below a folder with a suffix, except hidden ones, such as those that macOS creates.

    Args:
        folder: absolute path; subfolders and links to folders are followed, as in the datasets of a training run.
        ending: suffix, such as '.png'.
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
        images: images of a split.
        labels: annotations of the same split.
        what: dataset, for the message.
        fix: the fix, for the message.

    Raises:
        ValueError: if some have no partner; names the first ones.
    """
    for these, those in ((images, labels), (labels, images)):
        lost = [name for name in these.paths if name not in those.paths]
        if lost:
            raise ValueError(
                f'{what}: {len(lost)} of the {len(these.paths)} files *{these.ending} in {these.folder} have no '
                f'*{those.ending} in {those.folder}: {some(lost)}. Expected one for each. Fix: {fix}.'
            )
