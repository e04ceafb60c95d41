"""Prepares a dataset: checks all inputs first, works in parallel, and moves files into place when all are done."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmmaskformer.datasets.converters.processes import number_of_cores, work_on
from mmmaskformer.datasets.converters.progress import show_progress
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.records import Record, read_record, record_path, write_record
from mmmaskformer.datasets.converters.staging import Staging, write_target
from mmmaskformer.datasets.converters.unpacking import unpack
from mmmaskformer.formats.images import decode_picture
from mmmaskformer.formats.messages import some
from mmmaskformer.formats.whole_files import write_whole

VERSION = 1
"""Incremented whenever the same inputs give other files, so that unfinished work of an older release is not used."""
SAMPLE = 8
"""Number of images per split that are converted before anything is written, to detect a wrong release in seconds."""


class Prepared(NamedTuple):
    """The result of `prepare`.

    Attributes:
        record: counts of the complete dataset.
        root: its folder.
        kept: whether it was already prepared.
    """

    record: Record
    root: Path
    kept: bool


def prepare(
    recipe: Recipe,
    root: str | Path | None = None,
    source: str | Path | None = None,
    *,
    workers: int | None = None,
    partial_set: bool = False,
    overwrite: bool = False,
) -> Prepared:
    """Prepare a dataset; resume an interrupted preparation, and keep a complete one.

    Args:
        recipe: recipe of the dataset.
        root: folder of the prepared dataset; None for the one of the configs, below the working directory.
        source: folder in which the files of its publishers are unpacked, if it is not the root; None for the default.
        workers: number of processes; None for one per core.
        partial_set: accept other numbers of images than the published ones.
        overwrite: start from the beginning, and replace files that differ.

    Returns:
        The result.

    Raises:
        FileNotFoundError: if files of the publishers are missing.
        ValueError: if they are damaged, belong to another release, differ in number or have unknown ids, or if existing
            files that this function did not write differ from its output.
    """
    if workers is not None and workers < 1:
        raise ValueError(f'workers: found {workers}, expected at least 1')
    if source is not None and recipe.source is None:
        raise ValueError(
            f'source: found {source}, but {recipe.title} is prepared in the folder in which it is unpacked. Expected '
            'no source. Fix: pass that folder as the root (--root).'
        )
    root = Path(root or recipe.root).expanduser().resolve()
    source = Path(source or recipe.source or root).expanduser().resolve()
    record = None if overwrite else read_record(root, recipe.name, VERSION)
    if record is not None and record.targets:
        record.require_targets(root)
        # files elsewhere are no longer needed; the rest of a partial dataset may have been added
        if recipe.source is not None and (record.images == recipe.images or not source.is_dir()):
            return Prepared(record, root, kept=True)
    items = recipe.find(source, root)
    require_published_numbers(recipe, items, partial_set, root)
    _require_own_files(recipe, items)
    is_unpacked = all(archive.is_unpacked(root) for archive in recipe.archives)
    if record is not None and is_unpacked and record.images == Counter(item.split for item in items):
        return Prepared(record, root, kept=True)
    staging = Staging(root, recipe.name, [VERSION, str(source)])
    if not staging.is_publishing:
        if record is None and not overwrite:
            _require_free_names(recipe, items, root)
        _require_writable(recipe, items, root, overwrite)
        _try_sample(recipe, items, root, overwrite)
    with staging.explaining_full_disk(), staging.locked():
        newer = None if overwrite else read_record(root, recipe.name, VERSION)
        if newer is not None and newer != record and newer.images == Counter(item.split for item in items):
            staging.remove()  # another process has completed it since this one checked
            return Prepared(newer, root, kept=True)
        unpack(recipe, root, staging.folder)
        notes = _convert_all(recipe, items, staging, workers or number_of_cores(), overwrite)
        record = _finish(recipe, items, notes, staging)
        staging.remove()
    return Prepared(record, root, kept=False)


def require_complete(recipe: Recipe, record: Record, root: Path) -> None:
    """Check that the files of a prepared dataset still exist, both written and original ones.

    Args:
        recipe: recipe of the dataset.
        record: record of the complete dataset.
        root: its folder.

    Raises:
        FileNotFoundError, ValueError: if files are missing.
    """
    record.require_targets(root)
    if recipe.source is not None:
        return
    found = Counter(item.split for item in recipe.find(root, root))
    packed = [archive.path for archive in recipe.archives if not archive.is_unpacked(root)]
    if packed or found != record.images:
        what = f'{packed[0]} is not unpacked' if packed else f'found these numbers of images: {dict(found)}'
        raise ValueError(
            f'{recipe.title}: {what} in {root}, expected {dict(record.images)}, as when it was prepared. Fix: '
            f'mmmaskformer data prepare {recipe.name}, which updates the dataset.'
        )


def require_published_numbers(recipe: Recipe, items: Sequence[Item], partial_set: bool, root: Path) -> None:
    """Check that each split has the published number of images.

    Raises:
        ValueError: if a number differs, for example because an archive was not fully unpacked.
    """
    found = Counter(item.split for item in items)
    empty = [split for split in recipe.images if not found[split]]
    wrong = {split: number for split, number in recipe.images.items() if found[split] != number}
    if empty or (wrong and not partial_set):
        numbers = ', '.join(f'{split} {found[split]} (published: {number})' for split, number in wrong.items())
        raise ValueError(
            f'{recipe.title}: found these numbers of images: {numbers}. Expected the published ones. Fix: download '
            f'and unpack again: {recipe.files} from {recipe.address}; an archive may not be fully unpacked. To '
            f'use a part of the data on purpose, at least one image of each split, add --partial. Nothing was written '
            f'to {root}.'
        )


def _require_own_files(recipe: Recipe, items: Sequence[Item]) -> None:
    """Raise if two images would get the same file, or if an image is in both the training and the test split."""
    split_of: dict[Path, str] = {}
    shared = [item for item in items if split_of.setdefault(item.sources[0], item.split) != item.split]
    if shared:
        splits = ' and '.join([split_of[shared[0].sources[0]], shared[0].split])
        raise ValueError(
            f'{recipe.title}: {len(shared)} images are listed in {splits}: {some(item.name for item in shared)}. '
            f'Expected each in one split. Fix: unpack the lists again: {recipe.files} from {recipe.address}.'
        )
    number = Counter(target for item in items for target in item.targets)
    twice = [target for target, count in number.items() if count > 1]
    if twice:
        raise ValueError(
            f'{recipe.title}: {len(twice)} files would be written twice: {some(twice)}. Expected images with different '
            'names. Fix: remove the copies of these images.'
        )


def _require_free_names(recipe: Recipe, items: Sequence[Item], root: Path) -> None:
    """Raise if a JSON file exists that this command did not write."""
    there = [root / name for name in recipe.json_files.values() if (root / name).exists()]
    if there and any(item.targets for item in items):
        raise ValueError(
            f'{recipe.title}: {there[0]} exists, but was not written by this command or may be incomplete. Expected no '
            'such file. Fix: move it away so that it is created, or replace it with --overwrite.'
        )


def _require_writable(recipe: Recipe, items: Sequence[Item], root: Path, overwrite: bool) -> None:
    """Raise if a folder for missing files is not writable, before hours of work."""
    targets = [target for item in items for target in item.targets]
    folders = {(root / name).parent for name in targets if overwrite or not (root / name).exists()}
    if targets:
        folders |= {(root / name).parent for name in recipe.json_files.values()}
    folders |= {(root / archive.path).parent for archive in recipe.archives if not archive.is_unpacked(root)}
    for folder in sorted(folders):
        there = next(each for each in (folder, *folder.parents) if each.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise ValueError(
                f'{recipe.title}: the folder {there} is not writable, but files of the dataset must be added to it. '
                'Fix: make it writable; or pass another folder with --root that has links to the files of the '
                'publishers.'
            )


def _try_sample(recipe: Recipe, items: Sequence[Item], root: Path, overwrite: bool) -> None:
    """Convert a few images of each split, spread evenly, and write nothing."""
    for split in recipe.images:
        ours = [item for item in items if item.split == split]
        for item in ours[:: max(1, len(ours) // SAMPLE)]:
            if any(not path.is_file() for path in item.sources):
                continue  # still in an archive
            contents = recipe.convert(item).contents
            _require_same_targets(item, contents, root, overwrite)


Convert = Callable[[Item], Outcome]


def _convert_all(
    recipe: Recipe, items: Sequence[Item], staging: Staging, workers: int, overwrite: bool
) -> dict[tuple[str, str], dict]:
    """Convert the images that no earlier process has converted; return the notes of all images."""
    notes = staging.read_journal()
    done = {
        item[:2] for item in items if item[:2] in notes and all(map(staging.has, notes[item[:2]].get('written', ())))
    }
    if staging.is_publishing:
        done = set(notes)
    todo = [item for item in items if item[:2] not in done]
    work = partial(_convert_one, recipe.convert, staging.root, staging.files, overwrite)
    progress = show_progress(f'{recipe.name}: images', len(items), len(items) - len(todo))
    with staging.journal() as note, progress as advance:
        for item, content in work_on(work, todo, workers):
            note(item.split, item.name, content)
            notes[item[:2]] = content
            advance()
    return notes


def _convert_one(convert: Convert, root: Path, files: Path, overwrite: bool, item: Item) -> dict:
    """Convert one image and write its files; runs in a worker process."""
    outcome = convert(item)
    written = _require_same_targets(item, outcome.contents, root, overwrite)
    for target, content in zip(item.targets, outcome.contents, strict=True):
        if target in written:
            write_target(files / target, content)
    counts = {str(label): int(count) for label, count in outcome.counts.items()}
    return {'counts': counts, 'entry': outcome.entry, 'written': written}


def _require_same_targets(item: Item, contents: Sequence[bytes | Path], root: Path, overwrite: bool) -> list[str]:
    """The files that must be written; raises if one exists with other content."""
    wanted = []
    for target, content in zip(item.targets, contents, strict=True):
        path = root / target
        if overwrite or not path.exists():
            wanted.append(target)
        elif not _is_same(path, content):
            raise ValueError(
                f'{path}: this file exists and differs from the one to be written. Expected equal content, or no such '
                'file. Fix: move it away, or replace all files that differ with --overwrite.'
            )
    return wanted


def _is_same(path: Path, content: bytes | Path) -> bool:
    """Whether a file has the same bytes or the same pixels."""
    mine = content if isinstance(content, bytes) else content.read_bytes()
    theirs = path.read_bytes()
    if mine == theirs:
        return True
    form = dict(what='file', expected='a picture without loss')
    try:
        (ours, mode), (other, other_mode) = (decode_picture(each, str(path), **form) for each in (mine, theirs))
    except ValueError:
        return False
    return mode == other_mode and ours.shape == other.shape and bool((ours == other).all())


def _finish(recipe: Recipe, items: Sequence[Item], notes: dict[tuple[str, str], dict], staging: Staging) -> Record:
    """Write the JSON files and the record, and move everything to its final name."""
    counts = {split: Counter[int]() for split in recipe.images}
    for item in items:
        counts[item.split].update({int(label): count for label, count in notes[item[:2]]['counts'].items()})
    if recipe.describe is not None:
        for split, name in recipe.json_files.items():
            entries = [notes[item[:2]]['entry'] for item in items if item.split == split]
            path = staging.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, recipe.describe(entries))
    json_files = list(recipe.json_files.values()) if recipe.describe is not None else []
    targets = [target for item in items for target in item.targets]
    record_path(staging.root, recipe.name).unlink(missing_ok=True)
    staging.publish(last=json_files)
    record = Record(
        name=recipe.name,
        version=VERSION,
        images=Counter(item.split for item in items),
        counts=counts,
        targets=targets + json_files,
    )
    record.require_targets(staging.root)
    write_record(staging.root, record)
    return record
