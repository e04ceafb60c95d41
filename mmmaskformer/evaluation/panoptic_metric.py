"""Panoptic quality as a metric of mmengine's evaluator."""

import csv
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, PATH, checked
from mmmaskformer.core.quality.panoptic_map import numbered
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, count_segments, mean_quality, quality
from mmmaskformer.core.segments import Segments
from mmmaskformer.evaluation.also import MetricWithOthers
from mmmaskformer.evaluation.coco_panoptic_files import PanopticResultWriter, require_different_ids
from mmmaskformer.evaluation.common import (
    format_table,
    image_key,
    name_of,
    once_per_image,
    panoptic_truth,
    percent,
    prediction_of,
)
from mmmaskformer.formats.mmdet_codes import segments_of_codes
from mmmaskformer.formats.result_names import result_names
from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.heads.results import PANOPTIC, SEMANTIC
from mmmaskformer.registry import METRICS


@METRICS.register_module()
@checked(outfile_prefix=PATH.or_none(), image_table=PATH.or_none(), listed_areas=BOOLEAN)
class PanopticMetric(MetricWithOthers):
    """PQ, SQ and RQ of all classes, things and stuff, in percent, equal to the official tool's; see ``listed_areas``.

    Keys: ``panoptic/PQ``, ``SQ``, ``RQ``; ``PQ_th``, … for things; ``PQ_st``, … for stuff. A mean over no class is NaN.

    Each data sample must have the prediction and, unless ``format_only``, what `panoptic_truth` reads; the dataset's
    meta must have ``classes``, ``isthing`` (or ``thing_classes``, as in MMDetection's datasets) and, to write results,
    ``category_ids``. Each process stores only the counts of its images (some hundred bytes each). Neither panopticapi
    nor temporary files are needed.

    MMDetection's ``CocoPanopticMetric`` gives the same numbers for our models. It modifies predictions in place (void
    becomes 0, which is also the code of stuff of class 0); this metric reverts that, so the order does not matter.

    Args:
        field: field of the data sample with ``sem_seg`` (1, H, W) in MMDetection's encoding: that of a result of
            panoptic form, see `mmmaskformer.heads.results`, such as 'pred_panoptic_seg' or 'pred_detr_seg'.
        classwise: also print a row for each class, with TP, FP and FN.
        outfile_prefix: write results in COCO's format to ``PREFIX.panoptic/`` and ``PREFIX.panoptic.json``. PNG files
            are named after the images, with the folders below their common parent. With several nodes it must be on a
            shared disk.
        image_table: write PQ, SQ, RQ, TP, FP and FN of each image to this CSV file, the worst image first.
        listed_areas: the area of a true segment if JSON and PNG files disagree. False: its pixels. True: the ``area``
            in the JSON file, as in the official tool; ADE20K panoptic needs it for comparable numbers, since its
            published areas of stuff include the pixels that things cover.
        settings: all other arguments of `MetricWithOthers`: format_only, backend_args, collect_device, prefix, also.

    Raises:
        ValueError: if ``format_only`` is set without ``outfile_prefix`` or with an ``image_table``; or if the result in
            ``field`` has another form.
    """

    default_prefix = 'panoptic'
    forms = (PANOPTIC, SEMANTIC)
    destination_key = 'outfile_prefix'

    def __init__(
        self,
        field: str = 'pred_panoptic_seg',
        classwise: bool = False,
        outfile_prefix: str | None = None,
        image_table: str | None = None,
        listed_areas: bool = False,
        **settings,
    ) -> None:
        super().__init__(field=field, classwise=classwise, destination=outfile_prefix, **settings)
        if self.format_only and image_table is not None:
            raise ValueError(
                f'PanopticMetric: found image_table={image_table!r} with format_only=True, which does not '
                'evaluate. Fix: omit one of them.'
            )
        self.image_table = None if image_table is None else Path(image_table)
        self.outfile_prefix = outfile_prefix
        self.listed_areas = listed_areas
        self.writer = None if outfile_prefix is None else PanopticResultWriter(outfile_prefix)

    def check_images(self, image_ids: Sequence[int | str], image_paths: Sequence[str]) -> None:
        """Check before a test that its results can be written.

        Args:
            image_ids: ids of all images of the test set.
            image_paths: their paths.

        Raises:
            ValueError: if two images share an id or a path.
        """
        if self.writer is not None:
            require_different_ids(image_ids, str(self.writer.json_file))
            result_names(image_paths)

    def process_sample(self, sample: dict) -> tuple:
        """Count the segments of an image and write its prediction."""
        segments = self._prediction(sample)
        rows = None if self.format_only else self._count(sample, segments)
        entry = None if self.writer is None else self._write(sample, segments)
        return image_key(sample), rows, entry

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Print the table, move written results to their final names, and return the means in percent.

        Args:
            results: results of all processes, one tuple per image: key, rows of counts, entry of the JSON file.
        """
        results = once_per_image(results)
        if self.writer is not None:
            self.writer.finish([entry for _, _, entry in results])
            print_log(f'PanopticMetric: wrote {self.writer.json_file} and {self.writer.folder}', logger='current')
        if self.format_only:
            return {}
        counts = SegmentCounts.from_rows((rows for _, rows, _ in results), len(self.dataset_meta['classes']))
        is_thing = np.array(self._is_thing(), bool)
        means = {
            'All': mean_quality(counts),
            'Things': mean_quality(counts, is_thing),
            'Stuff': mean_quality(counts, ~is_thing),
        }
        rows = [(name, *map(percent, mean[:3]), mean.n) for name, mean in means.items()]
        print_log('\n' + format_table(['', 'PQ', 'SQ', 'RQ', 'classes'], rows), logger='current')
        if self.classwise:
            print_log('\n' + self._class_table(counts), logger='current')
        if self.image_table is not None:
            self._write_image_table(results)
        endings = {'All': '', 'Things': '_th', 'Stuff': '_st'}
        return {
            f'{key}{endings[name]}': 100 * value
            for name, mean in means.items()
            for key, value in zip(('PQ', 'SQ', 'RQ'), mean, strict=False)
        }

    def _write_image_table(self, results: Sequence[tuple]) -> None:
        """Write one row per image, sorted by PQ; images without segments last."""
        num_classes, rows = len(self.dataset_meta['classes']), []
        for key, of_image, _ in results:
            counts = SegmentCounts.from_rows([of_image], num_classes)
            mean = mean_quality(counts)
            totals = [int(total.sum()) for total in (counts.tp, counts.fp, counts.fn)]
            rows.append([key and (key[1] or key[0]), *(100 * value for value in mean[:3]), *totals])
        rows.sort(key=lambda row: (math.isnan(row[1]), row[1]))
        table = StringIO(newline='')
        csv.writer(table).writerows([['image', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN'], *rows])
        self.image_table.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.image_table, table.getvalue())
        print_log(f'PanopticMetric: wrote {self.image_table}', logger='current')

    def _prediction(self, sample: Mapping) -> Segments:
        found, num_classes = prediction_of(sample, self.field, PANOPTIC), len(self.dataset_meta['classes'])
        listed = [segment['id'] for segment in found['segments']] if 'segments' in found else None
        encoded = found['sem_seg'].cpu().numpy()[0]
        return segments_of_codes(encoded, num_classes, listed, f'{name_of(sample)}: panoptic map')

    def _count(self, sample: Mapping, segments: Segments) -> np.ndarray:
        is_thing = self._is_thing()
        truth = panoptic_truth(sample, is_thing, self.backend_args, self.listed_areas)
        return count_segments(truth, segments, num_classes=len(is_thing), name=name_of(sample)).rows()

    def _write(self, sample: Mapping, segments: Segments) -> dict:
        table = numbered(segments, num_classes=len(self.dataset_meta['classes']), name=name_of(sample))
        return self.writer.add(sample['img_id'], sample['img_path'], table, self._meta('category_ids'))

    def _is_thing(self) -> Sequence:
        """One flag per class; MMDetection's datasets list the names of the things instead."""
        meta = self.dataset_meta
        if meta.get('isthing') is None and meta.get('thing_classes') is not None:
            return [name in meta['thing_classes'] for name in meta['classes']]
        return self._meta('isthing')

    def _meta(self, key: str) -> Sequence:
        """An entry of the dataset's meta with one value per class."""
        values, classes = self.dataset_meta.get(key), self.dataset_meta['classes']
        if values is None or len(values) != len(classes):
            found = 'no such entry' if values is None else f'{len(values)} values'
            raise ValueError(
                f"PanopticMetric: the dataset's meta '{key}': found {found}, expected one for each of the "
                f'{len(classes)} classes. Fix: use a panoptic dataset of mmmaskformer, or set '
                f"dataset.metainfo['{key}']."
            )
        return values

    def _class_table(self, counts: SegmentCounts) -> str:
        per_class = zip(*quality(counts), strict=True)
        numbers = zip(self.dataset_meta['classes'], per_class, counts.tp, counts.fp, counts.fn, strict=True)
        rows = [(name, *map(percent, ratios), *totals) for name, ratios, *totals in numbers]
        return format_table(['class', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN'], rows)
