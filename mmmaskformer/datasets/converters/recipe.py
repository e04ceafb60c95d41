"""The description of a dataset from which the engine prepares it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Item(NamedTuple):
    """One image of a dataset with its files.

    Attributes:
        split: split, such as 'train'.
        name: name of the image, unique in its split.
        sources: absolute paths of the files to read.
        targets: names of the files to write, relative to the root of the dataset; empty if files are only checked.
        facts: further data for the conversion, such as the image's row of a JSON file.
    """

    split: str
    name: str
    sources: tuple[Path, ...]
    targets: tuple[str, ...] = ()
    facts: Any = None


class Outcome(NamedTuple):
    """The result of converting one image.

    Attributes:
        counts: number of pixels or segments by label, without ignored ones.
        contents: the bytes of each target, or the path of a file to copy.
        entry: data for the JSON file of the split; None if there is none.
    """

    counts: dict[int, int]
    contents: tuple[bytes | Path, ...] = ()
    entry: Any = None


class Archive(NamedTuple):
    """A zip file inside the dataset that must be unpacked.

    Attributes:
        path: path of the zip file, relative to the root of the dataset.
        folder: the folder that it creates and that contains all its files, relative to the folder of the zip file.
    """

    path: str
    folder: str

    def is_unpacked(self, root: Path) -> bool:
        """Whether the folder exists, or the archive does not.

        Args:
            root: of the dataset.
        """
        path = root / self.path
        return (path.parent / self.folder).exists() or not path.is_file()


class Recipe(NamedTuple):
    """The description of how a dataset is prepared.

    Attributes:
        name: name on the command line.
        title: name in messages.
        address: where to download it.
        files: names of the files to download, for messages.
        root: folder of the prepared dataset, as in the configs.
        source: folder in which the files of its publishers are unpacked; None if that is the root.
        classes: class names, in the order of the labels.
        images: published number of images by split.
        unit: what is counted for each class, 'pixels' or 'segments'.
        find: ``find(source, root)`` returns the images; raises if files are missing or of another release. Does not
            write.
        convert: ``convert(item)`` raises if a file is damaged or has unknown ids. Does not write.
        json_files: name of the JSON file of each split, relative to the root.
        describe: ``describe(entries)``, the content of the JSON file of a split with these entries.
        archives: archives to unpack before anything else.
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
    describe: Callable[[Sequence[Any]], bytes] | None = None
    archives: tuple[Archive, ...] = ()
