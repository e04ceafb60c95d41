"""Prepares a data set: looks at everything first, works in parallel, names nothing as finished before all of it is."""

import os
import signal
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from mmmaskformer.datasets.converters.progress import show_progress
from mmmaskformer.datasets.converters.recipe import Item, Outcome, Recipe
from mmmaskformer.datasets.converters.records import Record, read_record, write_record
from mmmaskformer.datasets.converters.searching import some
from mmmaskformer.datasets.converters.staging import Staging, write_target
from mmmaskformer.formats.images import decode_picture
from mmmaskformer.formats.whole_files import write_whole

VERSION = 1
"""Raised whenever the same files would give other ones, so that unfinished work of an older release is not used."""
SAMPLE = 8
"""Images of each split that are converted before anything is written: a wrong release shows in seconds, not hours."""
FEW = 32
"""Images below which starting processes takes longer than the work."""


class Prepared:
    """What `prepare` did.

    Attributes:
        record: counts of the complete data set.
        root: where it is.
        kept: whether it was there already.
    """

    def __init__(self, record: Record, root: Path, kept: bool) -> None:
        self.record, self.root, self.kept = record, root, kept


def prepare(
    recipe: Recipe,
    root: str | Path | None = None,
    source: str | Path | None = None,
    *,
    workers: int | None = None,
    partial_set: bool = False,
    overwrite: bool = False,
) -> Prepared:
    """Prepare a data set, or go on where an earlier call was interrupted, or keep what is complete.

    Args:
        recipe: of the data set.
        root: where it goes; None for the place that the configs expect, below the working directory.
        source: where the files of its publishers are unpacked, if that is not the root; None for the usual place.
        workers: processes; None for one for each core.
        partial_set: accept other numbers of images than the published ones.
        overwrite: do everything again, and replace files that differ.

    Returns:
        What there is now.

    Raises:
        FileNotFoundError: if files of the publishers are missing.
        ValueError: if they are damaged, of another release or number, hold unknown ids, or files that are there already
            and were not made by this function differ from what it would write.
    """
    if workers is not None and workers < 1:
        raise ValueError(f'workers: found {workers}, expected at least 1')
    root = Path(root or recipe.root).expanduser().resolve()
    source = Path(source or recipe.source or root).expanduser().resolve() if recipe.source or source else root
    record = read_record(root, recipe.name, VERSION)
    if record is not None and record.targets and not overwrite:
        record.require_targets(root)
        return Prepared(record, root, kept=True)
    items = recipe.find(source, root)
    require_published_numbers(recipe, items, partial_set, root)
    _require_own_targets(recipe, items)
    if record is not None and not overwrite and record.images == Counter(item.split for item in items):
        return Prepared(record, root, kept=True)
    staging = Staging(root, recipe.name, [VERSION, str(source)])
    if not staging.is_publishing:
        _require_free_names(recipe, items, root, overwrite)
        _try_sample(recipe, items, root, overwrite)
    with staging.locked():
        unpack(recipe, root)
        notes = _convert_all(recipe, items, staging, workers or _cores(), overwrite)
        record = _finish(recipe, items, notes, staging)
    staging.remove()
    return Prepared(record, root, kept=False)


def require_published_numbers(recipe: Recipe, items: Sequence[Item], partial_set: bool, root: Path) -> None:
    """Check that there are as many images as were published.

    Raises:
        ValueError: if a split has another number, which an archive that was not unpacked wholly has too.
    """
    found = Counter(item.split for item in items)
    empty = [split for split in recipe.images if not found[split]]
    wrong = {split: number for split, number in recipe.images.items() if found[split] != number}
    if empty or (wrong and not partial_set):
        numbers = ', '.join(f'{split} {found[split]} (published: {number})' for split, number in wrong.items())
        raise ValueError(
            f'{recipe.title}: found these numbers of images: {numbers}. Expected the published ones. Fix: download '
            f'and unpack again: {recipe.files} from {recipe.address}; an archive was perhaps not unpacked wholly. To '
            f'use a part of the data on purpose, at least one image of each split, add --partial. Nothing was written '
            f'to {root}.'
        )


def _require_own_targets(recipe: Recipe, items: Sequence[Item]) -> None:
    """Raise if two images would get one file."""
    number = Counter(target for item in items for target in item.targets)
    twice = [target for target, count in number.items() if count > 1]
    if twice:
        raise ValueError(
            f'{recipe.title}: {len(twice)} files would be written twice: {some(twice)}. Expected images of different '
            'names. Fix: remove the copies of these images.'
        )


def _require_free_names(recipe: Recipe, items: Sequence[Item], root: Path, overwrite: bool) -> None:
    """Raise if a JSON file is there that this function did not make."""
    there = [root / name for name in recipe.json_files.values() if (root / name).exists()]
    if there and any(item.targets for item in items) and not overwrite:
        raise ValueError(
            f'{recipe.title}: {there[0]} is there, and nothing says that this command made it and that it is complete. '
            'Expected no such file. Fix: move it away to have it made, or replace it with --overwrite.'
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


def unpack(recipe: Recipe, root: Path) -> None:
    """Unpack the archives of a data set that are not unpacked yet; each folder appears when it is complete.

    Raises:
        ValueError: if an archive is damaged.
    """
    for archive in recipe.archives:
        path = root / archive.path
        folder = path.parent / archive.folder
        if folder.exists() or not path.is_file():
            continue
        staged = root / f'.{recipe.name}.preparing' / 'unpacked'
        try:
            with zipfile.ZipFile(path) as stream:
                members = [name for name in stream.infolist() if name.filename.startswith(f'{archive.folder}/')]
                with show_progress(f'unpacking {path.name}', len(members)) as advance:
                    for member in members:
                        unpacked = staged / member.filename
                        if not unpacked.is_file() or unpacked.stat().st_size != member.file_size:
                            stream.extract(member, staged)
                        advance()
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(
                f'{recipe.title}: {path} is damaged ({error}), expected a whole zip file. Fix: download '
                f'{recipe.files} again from {recipe.address}.'
            ) from error
        os.replace(staged / archive.folder, folder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


Convert = Callable[[Item], Outcome]


def _convert_all(
    recipe: Recipe, items: Sequence[Item], staging: Staging, workers: int, overwrite: bool
) -> dict[tuple[str, str], dict]:
    """Convert the images that an earlier process did not; returns the notes of all."""
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
        for item, content in _run(work, todo, workers):
            note(item.split, item.name, content)
            notes[item[:2]] = content
            advance()
    return notes


def _convert_one(convert: Convert, root: Path, files: Path, overwrite: bool, item: Item) -> dict:
    """Convert one image and write its files; runs in a process of its own."""
    outcome = convert(item)
    written = _require_same_targets(item, outcome.contents, root, overwrite)
    for target, content in zip(item.targets, outcome.contents, strict=True):
        if target in written:
            write_target(files / target, content)
    counts = {str(label): int(count) for label, count in outcome.counts.items()}
    return {'counts': counts, 'entry': outcome.entry, 'written': written}


def _require_same_targets(item: Item, contents: Sequence[bytes | Path], root: Path, overwrite: bool) -> list[str]:
    """The files that are to be written; raises if one is there and differs."""
    wanted = []
    for target, content in zip(item.targets, contents, strict=True):
        path = root / target
        if overwrite or not path.exists():
            wanted.append(target)
        elif not _is_same(path, content):
            raise ValueError(
                f'{path}: this file is there already and differs from what would be written. Expected the same, or no '
                'such file. Fix: move it away, or replace all files that differ with --overwrite.'
            )
    return wanted


def _is_same(path: Path, content: bytes | Path) -> bool:
    """Whether a file has these bytes, or these pixels."""
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


def _run(work: Callable[[Item], dict], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, dict]]:
    """Do the work on all items, in this process if there are few."""
    if workers == 1 or len(items) < FEW:
        for item in items:
            yield item, work(item)
        return
    with _pool(workers) as pool:
        try:
            yield from zip(items, pool.map(work, items, chunksize=4), strict=True)
        except BrokenProcessPool as error:
            raise ValueError(
                f'one of {workers} processes was killed, probably for lack of memory. Expected all to end. Fix: run '
                f'the command again, which goes on where it stopped, with --workers {max(1, workers // 2)}.'
            ) from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that start from scratch, since a copy of this one may hold locks of its threads."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn'), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed, and leave Ctrl-C to that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, 'runs in processes that multiprocessing started'

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _finish(recipe: Recipe, items: Sequence[Item], notes: dict[tuple[str, str], dict], staging: Staging) -> Record:
    """Write the JSON files and the record, and give everything its final name."""
    counts = {split: Counter[int]() for split in recipe.images}
    for item in items:
        counts[item.split].update({int(label): count for label, count in notes[item[:2]]['counts'].items()})
    if recipe.describe is not None:
        for split, name in recipe.json_files.items():
            entries = [notes[item[:2]]['entry'] for item in items if item.split == split]
            path = staging.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, recipe.describe(split, entries))
    json_files = list(recipe.json_files.values()) if recipe.describe is not None else []
    targets = [target for item in items for target in item.targets]
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
