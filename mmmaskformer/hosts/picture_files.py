"""File names of pictures, for the visualizers of both hosts; a picture never replaces an image or another picture."""

import itertools
import logging
from collections.abc import Hashable, Iterator
from os import path as osp
from typing import Any

from mmengine.logging import print_log


class PictureFiles:
    """Assigns different file names to the pictures of images with the same name in several folders.

    The hosts' scripts and inferencers name a picture after its image file without the folder, so that a later picture
    would silently replace an earlier one.
    """

    def __init__(self) -> None:
        self._image_of: dict[Hashable, str] = {}
        self._logged = False

    def distinct(self, name: str, out_file: str | None, step: int, sample: Any) -> tuple[str, str | None]:
        """Name and file of a picture, prefixed with folders of the image if another image already has that name.

        Args:
            name: name for the backends of the visualizer.
            out_file: file to write instead of using the backends, or None.
            step: step under which the backends record it.
            sample: data sample; if it has no ``img_path``, as for an array, names are not changed.

        Returns:
            The changed ``name`` and ``out_file``.

        Raises:
            ValueError: if the picture would replace the image itself.
        """
        image = sample.get('img_path') if sample is not None else None
        if not isinstance(image, str):
            return name, out_file
        if out_file is not None and osp.realpath(out_file) == osp.realpath(image):
            raise ValueError(
                f'the picture of the result would replace the image {image}. Fix: choose another folder to draw into '
                '(--show-dir, out_dir).'
            )
        plain = osp.basename(image)
        if not (name if out_file is None else out_file).endswith(plain):
            return name, out_file  # a name chosen by the caller
        for own in _names(image):
            key = (_ending(name, plain, own), step) if out_file is None else _ending(out_file, plain, own)
            if self._image_of.setdefault(key, image) == image:
                break
        self._log_renamed(image, plain, own)
        return _ending(name, plain, own), _ending(out_file, plain, own)

    def _log_renamed(self, image: str, plain: str, own: str) -> None:
        if own != plain and not self._logged:
            self._logged = True
            print_log(
                f'Several images are called {plain}. The picture of {image} is named {own}; further pictures with '
                'equal names are prefixed with their folders in the same way.',
                logger='current',
                level=logging.WARNING,
            )


def _names(image: str) -> Iterator[str]:
    """Names for the picture of an image: its own, then prefixed with more and more folders, then with numbers."""
    *folders, name = image.replace('\\', '/').strip('/').split('/')
    yield name
    for folder in reversed(folders):
        name = f'{folder}_{name}'
        yield name
    for number in itertools.count(2):
        yield f'{number}_{name}'


def _ending(target: str | None, plain: str, own: str) -> str | None:
    """Replace the image name at the end of a name or path; other names are returned unchanged."""
    return target if target is None or not target.endswith(plain) else target[: -len(plain)] + own
