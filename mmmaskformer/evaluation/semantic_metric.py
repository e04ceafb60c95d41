"""Quality of label maps, by pixels and by segments, as one metric of mmengine's evaluator."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, PATH, checked, whole
from mmmaskformer.core.quality.panoptic_map import labels_of_pixels
from mmmaskformer.core.quality.panoptic_quality import mean_quality, quality
from mmmaskformer.core.quality.semantic_quality import LabelCounts, count_labels, pixel_quality
from mmmaskformer.evaluation.also import MetricWithOthers
from mmmaskformer.evaluation.common import (
    format_table,
    image_key,
    name_of,
    once_per_image,
    panoptic_truth,
    percent,
    prediction_of,
)
from mmmaskformer.formats.label_maps import load_labels, require_ignore_index, result_name, write_label_map
from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.heads.results import SEMANTIC
from mmmaskformer.registry import METRICS

UNFINISHED = 'UNFINISHED.txt'
"""A marker file beside the label maps, removed when a test has written all of them; it stays after an interruption."""


@METRICS.register_module()
@checked(ignore_index=whole(), output_dir=PATH.or_none(), keep_results=BOOLEAN)
class SemanticMetric(MetricWithOthers):
    """mIoU, mAcc, aAcc and frequency-weighted IoU, and the paper's PQ-St, in percent, from one pass.

    Keys: ``mIoU``, ``mAcc``, ``aAcc``, ``fwIoU``, ``PQ_St``, ``SQ_St``, ``RQ_St``, without a prefix, so that it can
    replace MMSegmentation's ``IoUMetric``; mIoU, mAcc and aAcc are equal, but not rounded. It works in both hosts:

    - MMSegmentation: compares ``pred_sem_seg.data`` with ``gt_sem_seg.data``;
    - MMDetection: compares ``FIELD.sem_seg`` with the label map in ``semantic_label_path`` if the dataset has such
      files (``data_prefix['labels']``; as published for ADE20K panoptic), else with the panoptic PNG of the image, at
      its full size; void and crowds are ignored. See `panoptic_truth` for what is read.

    mIoU is the mean of TP / (TP + FP + FN), summed over all images, over the classes in the ground truth or in a
    prediction: a class that is only predicted counts as 0. That is the formula at the time of the paper and that of
    MMSegmentation; detectron2 since July 2022 divides by the number of classes in the ground truth. mAcc is the mean
    over the classes in the ground truth.

    Predicted labels outside the class list, as from general inference without a confident query, are not a class; these
    pixels count as missed.

    Args:
        field: field of the data sample with the predicted labels: that of a result of semantic form, see
            `mmmaskformer.heads.results`, such as 'pred_sem_seg' or 'pred_general_seg'.
        ignore_index: label of ignored pixels.
        classwise: also print a row for each class.
        output_dir: folder for the predicted labels as PNG, named after the images. Folders below ``image_root``, which
            `mmmaskformer.CheckDataHook` sets to the image folder of the dataset, are kept. If the dataset has
            ``reduce_zero_label``, labels are 1 higher, as in its files. Files have 8 bits, or 16 if 8 are too few for
            the classes.
        keep_results: MMSegmentation's test script passes True together with ``output_dir`` (``--out``). The label maps
            are always kept, so False is refused.
        settings: all other arguments of `MetricWithOthers`: format_only, backend_args, collect_device, prefix, also.

    Raises:
        ValueError: if ``format_only`` is set without ``output_dir``, ``ignore_index`` is not a valid label, the result
            in ``field`` has another form, or ``keep_results`` is False.
    """

    # An empty prefix, since mmengine warns about None in every run.
    default_prefix = ''
    forms = (SEMANTIC,)
    destination_key = 'output_dir'
    image_root: str | None = None
    """Folder of the images; results keep the folders below it. None writes all results into one folder."""

    def __init__(
        self,
        field: str = 'pred_sem_seg',
        ignore_index: int = 255,
        classwise: bool = True,
        output_dir: str | None = None,
        keep_results: bool = True,
        **settings,
    ) -> None:
        super().__init__(field=field, classwise=classwise, destination=output_dir, **settings)
        if not keep_results:
            raise ValueError(
                'SemanticMetric: found keep_results=False, expected True: the label maps in output_dir are kept. Fix: '
                'omit output_dir if you do not need them.'
            )
        require_ignore_index(ignore_index)
        self.ignore_index = ignore_index
        self.output_dir = None if output_dir is None else Path(output_dir)
        self._image_of_file: dict[Path, str] = {}
        self._built = time.time()
        self._is_writing = False

    def process_sample(self, sample: dict) -> tuple:
        """Count the pixels of an image and write its prediction."""
        labels = self._prediction(sample)
        if self.output_dir is not None:
            self._write(sample, labels)
        return image_key(sample), None if self.format_only else self._count(sample, labels)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Print the table and return the means in percent.

        Args:
            results: results of all processes, one tuple per image: key, rows of counts.
        """
        if self._is_writing:
            self._finish_writing()
        if self.format_only:
            print_log(f'SemanticMetric: wrote label maps to {self.output_dir}', logger='current')
            return {}
        rows = (rows for _, rows in once_per_image(results))
        counts = LabelCounts.from_rows(rows, len(self.dataset_meta['classes']))
        pixels, segments = pixel_quality(counts), mean_quality(counts)
        ratios = {
            'mIoU': pixels.mean_iou,
            'mAcc': pixels.mean_accuracy,
            'aAcc': pixels.all_accuracy,
            'fwIoU': pixels.weighted_iou,
            'PQ_St': segments.pq,
            'SQ_St': segments.sq,
            'RQ_St': segments.rq,
        }
        if self.classwise:
            print_log('\n' + self._class_table(counts), logger='current')
        print_log('\n' + format_table(ratios, [list(map(percent, ratios.values()))]), logger='current')
        return {key: 100 * ratio for key, ratio in ratios.items()}

    def _prediction(self, sample: Mapping) -> np.ndarray:
        """Predicted labels, (H, W)."""
        found = prediction_of(sample, self.field, SEMANTIC)
        return found['data' if 'data' in found else 'sem_seg'].cpu().numpy()[0]

    def _count(self, sample: Mapping, labels: np.ndarray) -> np.ndarray:
        num_classes = len(self.dataset_meta['classes'])
        require_ignore_index(self.ignore_index, num_classes)
        name = name_of(sample)
        truth = self._truth(sample, num_classes, name)
        counts = count_labels(truth, labels, num_classes=num_classes, ignore_index=self.ignore_index, name=name)
        return counts.rows()

    def _truth(self, sample: Mapping, num_classes: int, name: str) -> np.ndarray:
        """True labels, (H, W)."""
        if 'data' in sample.get('gt_sem_seg', {}):
            return sample['gt_sem_seg']['data'].cpu().numpy()[0]
        if 'semantic_label_path' in sample:
            info = dict(sample, seg_map_path=sample['semantic_label_path'])
            return load_labels(info, self.ignore_index, self.backend_args)
        if sample.get('seg_map_path') is None:
            raise KeyError(
                f"{name}: the data sample has no ground truth, neither 'gt_sem_seg' nor 'seg_map_path'. Fix: set "
                "data_prefix['seg_map_path'] (semantic) or data_prefix['seg'] (panoptic) of the dataset and load the "
                'annotations in its pipeline; for a test set without annotations set test_evaluator.format_only=True '
                'and test_evaluator.output_dir.'
            )
        is_thing = self.dataset_meta.get('isthing', [False] * num_classes)
        panoptic = panoptic_truth(sample, is_thing, self.backend_args)
        return labels_of_pixels(panoptic, self.ignore_index, num_classes=num_classes, name=name)

    def _write(self, sample: Mapping, labels: np.ndarray) -> None:
        """Write a label map atomically."""
        shift = int(bool(sample.get('reduce_zero_label', False)))
        wide = len(self.dataset_meta['classes']) + shift > np.iinfo(np.uint8).max
        if not self._is_writing:
            self._is_writing = True
            self.output_dir.mkdir(parents=True, exist_ok=True)
            text = 'A test is running or was interrupted: label maps are missing or belong to another test.\n'
            write_whole(self.output_dir / UNFINISHED, text)
        write_label_map(self._file_of(sample['img_path']), labels + shift, wide=wide)

    def _finish_writing(self) -> None:
        """Mark the label maps as complete and log files of an earlier test, after all processes have finished."""
        self._is_writing = False
        (self.output_dir / UNFINISHED).unlink(missing_ok=True)
        older = [path for path in self.output_dir.rglob('*.png') if path.stat().st_mtime < self._built - 1]
        if older:
            print_log(
                f'SemanticMetric: {len(older)} label maps in {self.output_dir} are from an earlier test, such as '
                f'{min(older)}. Fix: remove them, or write to a new folder.',
                logger='current',
                level=logging.WARNING,
            )

    def _file_of(self, image: str) -> Path:
        """The file to write for an image.

        Raises:
            ValueError: if another image already has that file.
        """
        file = self.output_dir / result_name(image, self.image_root)
        other = self._image_of_file.setdefault(file, image)
        if other != image:
            raise ValueError(
                f'SemanticMetric: the results of {other} and {image} would both be {file}. Fix: add '
                "dict(type='mmmaskformer.CheckDataHook') to custom_hooks, which keeps the folders of the images, or "
                'test each folder separately.'
            )
        return file

    def _class_table(self, counts: LabelCounts) -> str:
        pixels = pixel_quality(counts)
        columns = zip(self.dataset_meta['classes'], pixels.iou, pixels.accuracy, *quality(counts), strict=True)
        rows = [(name, *map(percent, ratios)) for name, *ratios in columns]
        return format_table(['class', 'IoU', 'Acc', 'PQ-St', 'SQ-St', 'RQ-St'], rows)
