"""Results in COCO's panoptic format, as a test writes them."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmmaskformer.core.segments import Segments
from mmmaskformer.formats.coco_json import panoptic_text
from mmmaskformer.formats.panoptic_png import write_ids
from mmmaskformer.formats.result_names import result_names
from mmmaskformer.formats.whole_files import flush_files, whole_file, whole_folder


class PanopticResultWriter:
    """Writes predictions in COCO's panoptic result format: ``PREFIX.panoptic/**/*.png`` and ``PREFIX.panoptic.json``.

    PNG files are collected in a folder ``PREFIX.panoptic.partial``, which all processes of a distributed test share.
    `finish` gives them the names of their images, including folders, and replaces an older result by the complete new
    one, so that a result is always complete or absent.

    Args:
        prefix: path of the result, without the suffixes.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.folder = Path(f'{prefix}.panoptic')
        self.json_file = Path(f'{prefix}.panoptic.json')
        self.partial = Path(f'{prefix}.panoptic.partial')

    def add(self, image_id: int | str, image_path: str, segments: Segments, category_ids: Sequence[int]) -> dict:
        """Write the PNG of one image.

        Args:
            image_id: id of the image in the dataset.
            image_path: path of the image.
            segments: segments of the image, with ids 1 to S.
            category_ids: category ids of the K classes.

        Returns:
            The entry of the image, for `finish`, with the path of the image as its 'file_name'.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        write_ids(self.partial / _draft_name(image_path), segments.ids)
        rows = [{'id': i, 'category_id': int(category_ids[label])} for i, label in enumerate(segments.labels, 1)]
        return {'image_id': image_id, 'file_name': image_path, 'segments_info': rows}

    def finish(self, entries: Sequence[dict]) -> None:
        """Write the JSON file and move everything to its final name; called by one process.

        Args:
            entries: entries of all images.

        Raises:
            ValueError: if two images share an id or a path.
            OSError: if the result cannot be written.
        """
        require_different_ids([entry['image_id'] for entry in entries], str(self.json_file))
        names = result_names([entry['file_name'] for entry in entries])
        named = [entry | {'file_name': name} for entry, name in zip(entries, names, strict=True)]
        # The JSON file is written before an older result is touched, and renamed last.
        with whole_file(self.json_file) as part:
            part.write_text(panoptic_text(named), encoding='utf-8')
            with whole_folder(self.folder) as fresh:
                for entry, name in zip(entries, names, strict=True):
                    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                    (self.partial / _draft_name(entry['file_name'])).rename(fresh / name)
                flush_files(fresh)
                # From here to the end there is no JSON file, so it never describes a different folder.
                self.json_file.resolve().unlink(missing_ok=True)
        # leftovers of an earlier, interrupted test
        shutil.rmtree(self.partial, ignore_errors=True)


def _draft_name(image_path: str) -> str:
    """A short, unique name for an image."""
    return f'{hashlib.sha256(str(image_path).encode()).hexdigest()[:32]}.png'


def require_different_ids(image_ids: Sequence[int | str], json_file: str) -> None:
    """Check that image ids are unique, as a result file requires.

    Args:
        image_ids: ids of all images.
        json_file: file to write, for the message.

    Raises:
        ValueError: if an id occurs twice.
    """
    twice = [number for number, count in Counter(image_ids).items() if count > 1]
    if twice:
        raise ValueError(
            f'{json_file}: {len(twice)} image ids belong to several images, such as {twice[0]!r}, expected unique ids, '
            'by which COCO results identify images. Fix: test the datasets one by one, or give their images '
            'different ids.'
        )
