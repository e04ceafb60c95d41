"""What a data set has to say so that the engine can prepare it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Item(NamedTuple):
    """One image of a data set, with what belongs to it.

    Attributes:
        split: such as 'train'.
        name: of the image, unique in its split.
        sources: absolute paths of the files to read.
        targets: names of the files to write, relative to the root of the data set; empty if files are only checked.
        facts: anything else that converting it needs, such as its row of a JSON file.
    """

    split: str
    name: str
    sources: tuple[Path, ...]
    targets: tuple[str, ...] = ()
    facts: Any = None


class Outcome(NamedTuple):
    """What converting one image gave.

    Attributes:
        counts: label to number of pixels, or of segments; ignored ones are left out.
        contents: the bytes of each target, or the path of the file that it is a copy of.
        entry: what the split's JSON files need of it, as JSON; None without such files.
    """

    counts: dict[int, int]
    contents: tuple[bytes | Path, ...] = ()
    entry: Any = None


class Archive(NamedTuple):
    """A zip file inside the data set that has to be unpacked, relative to its root.

    Attributes:
        path: of the zip file.
        folder: that it unpacks to, and that all its files lie in, relative to the folder of the zip file.
    """

    path: str
    folder: str

    def is_unpacked(self, root: Path) -> bool:
        """Whether the folder is there, or there is no archive.

        Args:
            root: of the data set.
        """
        path = root / self.path
        return (path.parent / self.folder).exists() or not path.is_file()


class Recipe(NamedTuple):
    """How a data set is prepared.

    Attributes:
        name: on the command line.
        title: for people.
        address: where to download it.
        files: which files to download, for messages.
        root: where the data set goes, as the configs expect it.
        source: where the files of its publishers are unpacked; None if that is the root.
        classes: names, in the order of the labels.
        images: split to published number of images.
        unit: what is counted for each class, 'pixels' or 'segments'.
        find: ``find(source, root)``, the images; raises if files are missing or of another version. Writes nothing.
        convert: ``convert(item)``; raises if a file is damaged or holds unknown ids. Writes nothing.
        json_files: split to the name of its JSON file, relative to the root.
        describe: ``describe(split, entries)``, the content of a split's JSON file.
        archives: to unpack before anything else.
    """

    name: str
    title: str
    address: str
    files: str
    root: str
    source: str | None
    classes: tuple[str, ...]
    images: Mapping[str, int]
    unit: str
    find: Callable[[Path, Path], list[Item]]
    convert: Callable[[Item], Outcome]
    json_files: Mapping[str, str] = {}
    describe: Callable[[str, Sequence[Any]], bytes] | None = None
    archives: tuple[Archive, ...] = ()
