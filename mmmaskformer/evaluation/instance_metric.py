"""MMDetection's COCO metric for files of any origin; a location for `METRICS` where MMDetection is installed."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log

from mmmaskformer.core.checks import BOOLEAN, FRACTION, MAPPING, PATH, TEXT, checked, list_of, one_of, whole
from mmmaskformer.evaluation.common import prediction_of
from mmmaskformer.formats.coco_instances import complete_instances
from mmmaskformer.heads.results import INSTANCES
from mmmaskformer.registry import METRICS

# After our registry, which makes mmdet importable with mmcv-lite.
from mmdet.evaluation import CocoMetric  # isort: skip

KIND = one_of('bbox', 'segm', 'proposal', 'proposal_fast')


@METRICS.register_module()
@checked(
    ann_file=PATH.or_none(),
    metric=KIND | list_of(KIND),
    classwise=BOOLEAN,
    proposal_nums=list_of(whole(1)),
    iou_thrs=(FRACTION | list_of(FRACTION)).or_none(),
    metric_items=list_of(TEXT).or_none(),
    format_only=BOOLEAN,
    outfile_prefix=PATH.or_none(),
    file_client_args=MAPPING.or_none(),
    backend_args=MAPPING.or_none(),
    collect_device=one_of('cpu', 'gpu'),
    prefix=TEXT.or_none(),
    sort_categories=BOOLEAN,
    use_mp_eval=BOOLEAN,
)
class CocoInstanceMetric(CocoMetric):
    """MMDetection's CocoMetric for the files that `mmmaskformer.CocoInstanceDataset` reads.

    The host passes ``ann_file`` to pycocotools, which fails after the last image with a plain IndexError or KeyError if
    an annotation has no usable outline, 'area' or 'iscrowd', and counts a detected object as missed if its annotation
    has the id 0. This class replaces such a file by a completed copy and logs that; other files are used unchanged.

    Args:
        ann_file: the COCO instance JSON; None uses the ground truth of the samples.
        settings: all other arguments of the host's class.

    Raises:
        FileNotFoundError, ValueError: if the file cannot be read, see
            `mmmaskformer.formats.coco_instances.read_instances`.
    """

    def __init__(self, ann_file: str | None = None, **settings) -> None:
        with _usable_file(ann_file, settings.get('backend_args')) as (file, backend_args):
            super().__init__(ann_file=file, **settings | dict(backend_args=backend_args))
        self.backend_args = settings.get('backend_args')

    def process(self, data_batch: Mapping, data_samples: Sequence[Mapping]) -> None:
        """Collect the instances of a batch.

        Args:
            data_batch: not used.
            data_samples: data samples as dicts.

        Raises:
            KeyError: if a data sample has no predicted instances.
        """
        for sample in data_samples:
            prediction_of(sample, 'pred_instances', INSTANCES)
        super().process(data_batch, data_samples)


@contextmanager
def _usable_file(ann_file: str | None, backend_args: dict | None) -> Iterator[tuple[str | None, dict | None]]:
    """The file to evaluate with, and its backend arguments."""
    content = None if ann_file is None else complete_instances(ann_file, backend_args)
    if content is None:
        yield ann_file, backend_args
        return
    print_log(
        f'CocoInstanceMetric: {ann_file} is completed before it is used: annotations that the dataset drops are left '
        "out, missing values of 'area' and 'iscrowd' are filled in, and annotations are numbered from 1.",
        logger='current',
        level=logging.WARNING,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'instances.json'
        file.write_text(json.dumps(content), encoding='utf-8')
        yield str(file), None
