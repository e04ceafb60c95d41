"""Results in COCO's panoptic format, as a test writes them, and their comparison with ground truth in that format."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments
from mmmaskformer.core.segments import Segments
from mmmaskformer.formats.coco_json import panoptic_text
from mmmaskformer.formats.json_files import read_json
from mmmaskformer.formats.panoptic_png import read_ids, write_ids
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


def count_files(
    truth_json: str | Path,
    pred_json: str | Path,
    truth_folder: str | Path | None = None,
    pred_folder: str | Path | None = None,
) -> tuple[SegmentCounts, list[dict]]:
    """Compare results with the ground truth, both in COCO's panoptic format.

    Args:
        truth_json: file with ``images``, ``annotations`` and ``categories``.
        pred_json: file with ``annotations``.
        truth_folder: folder of its PNG files; None for the JSON file's name without the suffix.
        pred_folder: likewise for the results.

    Returns:
        Counts over all images, and the K categories in the order of the ground truth.

    Raises:
        ValueError: if an image has no prediction, or as in `count_segments`.
    """
    form = 'a COCO panoptic JSON'
    truth, result = (read_json(file, None, form, f'panoptic file {file}') for file in (truth_json, pred_json))
    folders = [
        Path(folder or Path(file).with_suffix(''))
        for folder, file in ((truth_folder, truth_json), (pred_folder, pred_json))
    ]
    label_of = {category['id']: label for label, category in enumerate(truth['categories'])}
    predictions = {entry['image_id']: entry for entry in result['annotations']}
    rows = []
    for entry in truth['annotations']:
        if entry['image_id'] not in predictions:
            raise ValueError(
                f'{pred_json}: no prediction for image {entry["image_id"]} ({entry["file_name"]}), expected one each'
            )
        pair = []
        for folder, found in zip(folders, (entry, predictions[entry['image_id']]), strict=True):
            file = folder / found['file_name']
            pair.append(segments_of_entry(read_ids(str(file)), found['segments_info'], label_of, str(file)))
        rows.append(count_segments(*pair, num_classes=len(label_of), name=str(folders[0] / entry['file_name'])).rows())
    return SegmentCounts.from_rows(rows, len(label_of)), truth['categories']


def segments_of_entry(ids: np.ndarray, segments: Sequence[dict], label_of: Mapping[int, int], name: str) -> Segments:
    """Combine the ids of a PNG with its entry in the JSON file.

    Args:
        ids: (H, W) from `read_ids`.
        segments: ``segments_info``; ``iscrowd`` and ``area`` may be absent, as in results.
        label_of: labels by category id.
        name: name of the file, for messages.

    Raises:
        ValueError: if a category is unknown.
    """
    unknown = {segment['id']: segment['category_id'] for segment in segments if segment['category_id'] not in label_of}
    if unknown:
        raise ValueError(
            f'{name}: the categories of the segments {unknown} (id: category_id) are unknown, expected one of '
            f'{sorted(label_of)[:8]} …'
        )
    areas = [segment.get('area') for segment in segments]
    return Segments(
        ids,
        np.array([label_of[segment['category_id']] for segment in segments], np.int64),
        listed_ids=np.array([segment['id'] for segment in segments], np.int64),
        is_crowd=np.array([segment.get('iscrowd', 0) for segment in segments], bool),
        areas=None if None in areas else np.array(areas, np.int64),
    )
