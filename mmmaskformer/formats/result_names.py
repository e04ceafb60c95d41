"""Names of result files that keep the folders of the images."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath


def result_names(images: Sequence[str], suffix: str = '.png') -> list[str]:
    """Unique names for the results of images.

    The folders below the common parent of all images are kept. If two images differ only in their suffix, the names
    keep it: ``a.jpg.png`` and ``a.tif.png``.

    Args:
        images: paths or URLs of images, all different.
        suffix: suffix of the results.

    Returns:
        Names with slashes, relative to the folder of the results.

    Raises:
        ValueError: if an image occurs twice.
    """
    paths = [_absolute(str(image)) for image in images]
    count = Counter(paths)
    twice = [image for image, path in zip(images, paths, strict=True) if count[path] > 1]
    if twice:
        raise ValueError(
            f'results: {len(twice)} images are listed more than once, such as {twice[0]}; expected each once. '
            'Fix: remove the duplicates'
        )
    common = _common_folder(paths)
    inside = [PurePosixPath(*(part for part in path.parts[common:] if part != '/')) for path in paths]
    plain = [path.with_suffix(suffix).as_posix() for path in inside]
    whole = [f'{path.as_posix()}{suffix}' for path in inside]
    plain_count = Counter(plain)
    names = [name if plain_count[name] == 1 else longer for name, longer in zip(plain, whole, strict=True)]
    # A name with its suffix may equal the plain name of a third image.
    return names if len(set(names)) == len(names) else whole


def _absolute(image: str) -> PurePosixPath:
    """The path without '..', or an unchanged URL."""
    image = image.replace('\\', '/')
    return PurePosixPath(image if '://' in image else posixpath.abspath(image))


def _common_folder(paths: Sequence[PurePosixPath]) -> int:
    """Number of leading parts that all folders share."""
    if not paths:
        return 0
    first, last = min(path.parts[:-1] for path in paths), max(path.parts[:-1] for path in paths)
    pairs = zip(first, last, strict=False)
    return next((position for position, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))
