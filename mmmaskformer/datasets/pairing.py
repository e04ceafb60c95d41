"""Separation of images from label maps, and pairing of both."""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from os import path as osp
from typing import NamedTuple

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.gif', '.ppm', '.pgm', '.jp2')
EQUAL_SUFFIXES = ({'.jpg', '.jpeg'}, {'.tif', '.tiff'})
"""Two spellings of one format."""
PAIR = re.compile(rf'(.+?(?:{"|".join(map(re.escape, IMAGE_SUFFIXES))}))[\s,;]+(\S.*)', re.IGNORECASE)
"""A line with an image file and a label file; names may contain blanks, since the first one ends with its suffix."""
SHOWN = 3


class Listed(NamedTuple):
    """A line of a list file.

    Attributes:
        line: its number, from 1.
        image: name of the image, with or without suffix.
        labels: name of the label map if the line gives one.
    """

    line: int
    image: str
    labels: str | None


class Folder(NamedTuple):
    """The files in the folders of a dataset.

    Attributes:
        images: sorted paths of the images, with their names without suffix, relative to the folder.
        labels: likewise for the label maps.
        left_out: paths of other image files in the image folder.
    """

    images: dict[str, str]
    labels: dict[str, str]
    left_out: list[str]


def spellings(suffixes: Sequence[str]) -> list[str]:
    """All equivalent suffixes in lower case: '_a.jpg' also stands for '_a.jpeg', '_a.tif' for '_a.tiff', and vice
    versa.

    Args:
        suffixes: of file names, in any case.
    """
    meant = [suffix.lower() for suffix in suffixes]
    for suffix in tuple(meant):
        start, end = osp.splitext('x' + suffix)
        meant += [start[1:] + other for equal in EQUAL_SUFFIXES if end in equal for other in sorted(equal)]
    return list(dict.fromkeys(meant))


def ending_of(name: str, endings: Iterable[str]) -> str:
    """The longest of some lower-case suffixes that matches a name, ignoring case; '' if none matches."""
    return max((ending for ending in endings if name.lower().endswith(ending)), key=len, default='')


def sort_files(
    image_folder: str,
    image_files: Iterable[str],
    image_suffixes: Sequence[str],
    label_folder: str | None,
    label_files: Iterable[str],
    label_suffix: str,
) -> Folder:
    """Separate images from label maps; both may be in the same folder, or one folder inside the other.

    If a file matches both, the longer suffix decides: with '.png' and '_mask.png', a_mask.png is a label map. If both
    are equally long, the inner folder decides.

    Args:
        image_folder: folder of the images.
        image_files: all files below it, relative to it.
        image_suffixes: suffixes of the images.
        label_folder: folder of the label maps; None if there are none.
        label_files: all files below it.
        label_suffix: suffix of the label maps.
    """
    image_endings, label_endings = spellings(image_suffixes), spellings([label_suffix])
    label_of = {osp.normpath(osp.join(label_folder, file)): file for file in label_files} if label_folder else {}
    inner_labels = label_folder is not None and _is_inside(label_folder, image_folder)
    images, labels, left_out = {}, {}, []
    for file in sorted(image_files):
        path = osp.join(image_folder, file)
        ending = ending_of(file, image_endings)
        as_label = ending_of(file, label_endings) if osp.normpath(path) in label_of else ''
        if as_label and (len(as_label) > len(ending) or (len(as_label) == len(ending) and inner_labels)):
            continue
        if ending:
            label_of.pop(osp.normpath(path), None)
            images[path] = file[: -len(ending)]
        elif not as_label and file.lower().endswith(IMAGE_SUFFIXES):
            left_out.append(path)
    for file in label_of.values():
        ending = ending_of(file, label_endings)
        if ending:
            labels[osp.join(label_folder, file)] = file[: -len(ending)]
    return Folder(images, labels, left_out)


def _is_inside(inner: str, outer: str) -> bool:
    inner, outer = osp.normpath(inner), osp.normpath(outer)
    return inner != outer and (outer == '.' or inner.startswith(outer.rstrip('/') + '/'))


def decode_list(content: bytes, path: str) -> str:
    """Decode a list file in UTF-8, or in UTF-16 with a byte order mark, as written by PowerShell.

    Args:
        content: content of the file.
        path: path of the file, for messages.

    Raises:
        ValueError: if it is neither.
    """
    encoding = 'utf-16' if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else 'utf-8'
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b'\n') + 1
        raise ValueError(
            f'ann_file {path!r}: line {line} has the byte {content[error.start]:#04x}, which is not '
            f'{encoding.upper()}; expected a text file in UTF-8. Fix: save it as UTF-8.'
        ) from None


def parse_list(text: str) -> list[Listed]:
    """Parse the lines of a list file: a name, or the names of an image file and its label file.

    Empty lines are skipped. Blanks and tabs around names, a byte order mark and line ends of any kind are removed.

    Args:
        text: text of the file.
    """
    listed = []
    for number, line in enumerate(re.split('\r\n|\n|\r', text.lstrip('\ufeff')), start=1):
        line = line.strip()
        if not line:
            continue
        pair = PAIR.fullmatch(line)
        listed.append(Listed(number, *(pair.groups() if pair else (line, None))))
    return listed


def candidates(folder: str, name: str, suffixes: Sequence[str]) -> list[str]:
    """Possible paths of a listed name, most likely first; backslashes may belong to the name or stand for '/'.

    Args:
        folder: folder of the files.
        name: name with or without one of the suffixes.
        suffixes: suffixes as configured, not lowered.
    """
    endings = spellings(suffixes)
    more = list(dict.fromkeys([*suffixes, *endings, *(end.upper() for end in endings)]))
    names = []
    for spelling in dict.fromkeys([name, name.replace('\\', '/')]):
        names += [spelling] if ending_of(spelling, endings) else []
        names += [spelling + suffix for suffix in more]
    return [osp.join(folder, each) for each in names]


def count_suffixes(paths: Iterable[str]) -> str:
    """Count the files by suffix, such as "3 x '.PNG', 1 x '.tif'"; '' for no files."""
    counts = Counter(osp.splitext(path)[1] for path in paths).most_common(SHOWN)
    return ', '.join(f'{count} x {suffix!r}' for suffix, count in counts)
