"""COCO's panoptic format on disk: PNGs with id = R + 256 G + 65536 B, and a JSON file that says what the ids are."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmmaskformer.core.quality.panoptic_map import PanopticMap
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments
from mmmaskformer.formats.panoptic_png import read_ids, write_ids


class PanopticResultWriter:
    """Writes predictions in COCO's panoptic result format: ``PREFIX.panoptic/*.png`` and ``PREFIX.panoptic.json``.

    Pictures are collected in a folder ``PREFIX.panoptic.partial``, which all processes of a distributed test share.
    `finish` puts the complete result in place of an older one, so that either is whole or absent.

    Args:
        prefix: path of the result, without the endings.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.folder = Path(f'{prefix}.panoptic')
        self.json_file = Path(f'{prefix}.panoptic.json')
        self.partial = Path(f'{prefix}.panoptic.partial')

    def add(self, image_id: int, image_path: str, ids: np.ndarray, category_ids: Sequence[int]) -> dict:
        """Write the picture of one image.

        Args:
            image_id: of the dataset.
            image_path: of the image; the picture gets its name with the ending ``.png``.
            ids: (H, W) integer, 0 for void, i + 1 for segment i.
            category_ids: of the segments.

        Returns:
            The entry of the image, for `finish`.
        """
        name = f'{Path(image_path).stem}.png'
        self.partial.mkdir(parents=True, exist_ok=True)
        write_ids(self.partial / name, ids)
        segments = [{'id': i + 1, 'category_id': int(category)} for i, category in enumerate(category_ids)]
        return {'image_id': image_id, 'file_name': name, 'segments_info': segments}

    def finish(self, entries: Sequence[dict]) -> None:
        """Write the JSON file and give everything its final name; called by one process.

        Args:
            entries: of all images.

        Raises:
            ValueError: if two images share an id or a file name.
        """
        for key in ('image_id', 'file_name'):
            values = [entry[key] for entry in entries]
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(
                    f'{self.json_file}: two images have the {key} {twice!r}, expected each once. Fix: test the '
                    'datasets one by one, or give their images ids and names that differ.'
                )
        self.partial.mkdir(parents=True, exist_ok=True)
        wanted = {entry['file_name'] for entry in entries}
        for file in self.partial.iterdir():
            if file.name not in wanted:  # of an earlier test that was interrupted
                file.unlink()
        draft = Path(f'{self.json_file}.partial')
        draft.write_text(json.dumps({'annotations': list(entries)}), encoding='utf-8')
        self.json_file.unlink(missing_ok=True)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.replace(self.partial, self.folder)
        os.replace(draft, self.json_file)


def count_files(
    truth_json: str | Path,
    pred_json: str | Path,
    truth_folder: str | Path | None = None,
    pred_folder: str | Path | None = None,
) -> tuple[SegmentCounts, list[dict]]:
    """Compare results with the ground truth, both in COCO's panoptic format.

    Args:
        truth_json: with ``images``, ``annotations`` and ``categories``.
        pred_json: with ``annotations``.
        truth_folder: its pictures; None for the JSON file's name without the ending.
        pred_folder: the same of the results.

    Returns:
        Counts of all images, and the K categories in the order of the ground truth's list.

    Raises:
        ValueError: if an image has no prediction, or as in `count_segments`.
    """
    truth, result = (json.loads(Path(file).read_text(encoding='utf-8')) for file in (truth_json, pred_json))
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
            pair.append(panoptic_map(read_ids(str(file)), found['segments_info'], label_of, str(file)))
        rows.append(count_segments(*pair, num_classes=len(label_of), name=str(folders[0] / entry['file_name'])).rows())
    return SegmentCounts.from_rows(rows, len(label_of)), truth['categories']


def panoptic_map(ids: np.ndarray, segments: Sequence[dict], label_of: Mapping[int, int], name: str) -> PanopticMap:
    """A picture with what the JSON file says about it.

    Args:
        ids: (H, W) of `read_ids`.
        segments: ``segments_info``; ``iscrowd`` and ``area`` may be absent, as in results.
        label_of: category id to label.
        name: of the file, for messages.

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
    return PanopticMap(
        ids=ids,
        segment_ids=np.array([segment['id'] for segment in segments], np.int64),
        labels=np.array([label_of[segment['category_id']] for segment in segments], np.int64),
        is_crowd=np.array([segment.get('iscrowd', 0) for segment in segments], bool),
        areas=None if None in areas else np.array(areas, np.int64),
    )
