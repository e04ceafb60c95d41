"""Search for the files that an annotation file names."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from os import path as osp

from mmengine import fileio

from mmmaskformer.formats.coco_values import Notes
from mmmaskformer.formats.messages import some


def locate_files(
    names: Sequence[str], folder: str, *, listed_in: str, origin: str, notes: Notes, backend_args: dict | None = None
) -> list[str]:
    """Find the files that an annotation file names below a folder.

    A path that is absolute or leaves the folder is used if it exists. Otherwise its longest trailing part that exists
    below the folder is used, since annotation files are written on one machine and used on another.

    Args:
        names: names with forward slashes only.
        folder: folder of the files.
        listed_in: the annotation file, for messages.
        origin: dataset and config key of the folder, for messages, such as "CocoDataset: data_prefix['img']".
        notes: counts the replaced names.
        backend_args: as in `mmengine.fileio`.

    Returns:
        A name for each file, relative to ``folder``.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if files are missing.
    """
    if not fileio.isdir(folder, backend_args=backend_args):
        raise FileNotFoundError(
            f'{origin} is the folder {folder!r}, which does not exist. Fix: download or link the data there, or '
            'correct data_root or data_prefix; relative paths start at the working directory.'
        )
    there = set(fileio.list_dir_or_file(folder, list_dir=False, recursive=True, backend_args=backend_args))
    located, missing = [], []
    for name in names:
        found = name if name in there else _find_elsewhere(name, folder, there, notes, backend_args)
        (missing if found is None else located).append(found or name)
    if missing:
        dataset, key = origin.split(': ', 1)
        raise ValueError(
            f'{dataset}: {len(missing)} of {len(names)} files that {listed_in!r} lists are missing in {folder!r}: '
            f'{some(missing)}. Fix: complete the folder, or '
            f'correct {key} or ann_file.'
        )
    return located


def note_repeated(names: Sequence[str], notes: Notes) -> None:
    """Count the files that an annotation file lists for several images.

    Args:
        names: file names, one for each image.
        notes: the counter.
    """
    for name, count in Counter(names).items():
        if count > 1:
            notes.add('files listed for several images each, read for all of them', name)


def _find_elsewhere(name: str, folder: str, there: set[str], notes: Notes, backend_args: dict | None) -> str | None:
    """A name below the folder for a path outside of it; None if there is no such file."""
    is_windows = name[1:3] == ':/'
    if not (is_windows or name.startswith(('/', '../'))):
        return None
    base = osp.abspath(folder).replace('\\', '/')
    inside = posixpath.relpath(posixpath.normpath(posixpath.join(base, name)), base)
    if inside in there:
        return inside
    if not is_windows and fileio.exists(osp.join(folder, name), backend_args=backend_args):
        return name
    parts = name.split('/')
    ends = ('/'.join(parts[start:]) for start in range(1, len(parts)))
    end = next((end for end in ends if end in there), None)
    if end is not None:
        notes.add(
            f'paths that do not exist here, replaced by files in {folder!r} with the same ending', f'{name} -> {end}'
        )
    return end
