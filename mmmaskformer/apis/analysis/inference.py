"""Comparison of the inference modes of one checkpoint, from one run of the network over the data."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from rich.progress import track

from mmmaskformer.analysis.tables import Cell, write_tables
from mmmaskformer.apis.analysis.evaluators import truth_settings
from mmmaskformer.apis.analysis.one_pass import Trained, load_config
from mmmaskformer.apis.analysis.outputs import output_files
from mmmaskformer.apis.trained import read_config
from mmmaskformer.core.quality.panoptic_map import labels_of_pixels
from mmmaskformer.core.quality.panoptic_quality import SegmentCounts, mean_quality
from mmmaskformer.core.quality.semantic_quality import LabelCounts, pixel_quality
from mmmaskformer.evaluation.common import once_per_image
from mmmaskformer.evaluation.panoptic_metric import PanopticMetric
from mmmaskformer.evaluation.semantic_metric import SemanticMetric
from mmmaskformer.formats.mmdet_codes import segments_of_codes
from mmmaskformer.heads.results import PANOPTIC, SEMANTIC, result_kinds
from mmmaskformer.heads.settings import INFERENCE

HEADER = ['inference', 'mIoU', 'PQ-St', 'SQ-St', 'RQ-St', 'PQ', 'PQ things', 'PQ stuff', 'settings']
OWN_LABELS = 'labels_of_segments'
"""Key in a data sample, as a dict, for the classes of the segments of a panoptic result."""


def compare_inference(
    config: str | Path,
    checkpoint: str | Path,
    out: str | Path,
    modes: Sequence[str] | None = None,
    cfg_options: dict | None = None,
) -> tuple[list[str], list[list[Cell]], list[Path]]:
    """Evaluate every inference mode on the test set of a config, in one pass.

    Each row equals the host's test with the corresponding ``test_cfg``. A semantic model has the modes 'semantic' and
    'general'; a panoptic model has every result of `mmmaskformer.heads.results` that is a map: 'panoptic', 'detr',
    'semantic', 'general'. Settings are taken from the config's ``test_cfg``, else they are the published defaults.

    mIoU and PQ-St compare the class of each pixel; void is not a class. PQ compares with the segments of the panoptic
    ground truth; for PQ, a label map has one segment for each class.

    Args:
        config: mmengine config file.
        checkpoint: its weights.
        out: folder for inference.md and inference.csv.
        modes: the modes, in this order; None for all.
        cfg_options: entries to replace, such as {'model.test_cfg.detr.object_threshold': 0.7}.

    Returns:
        Header and rows of the table, and the files written. Values are in percent, NaN where a metric does not apply.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if a mode is unknown, the weights do not fit, or there is no image or no ground truth.
        OSError: if ``out`` cannot be written, before the model runs.
    """
    cfg = read_config(config, checkpoint, cfg_options, needs=('model', 'test_dataloader'))
    run = _of_detector if 'panoptic_head' in cfg.model else _of_segmentor
    files = output_files(out, 'inference.md', 'inference.csv')
    rows = run(cfg, checkpoint, modes)
    title = f'{Path(config).stem}, {Path(checkpoint).name}: inference modes, in percent'
    title = '\n\n'.join([title, *_unlike_thresholds(cfg, [str(row[0]) for row in rows])])
    return HEADER, rows, write_tables(files[0].with_suffix(''), HEADER, rows, title)


def _unlike_thresholds(cfg: Config, modes: Sequence[str]) -> list[str]:
    """Name modes with a default object threshold if the config sets the one of panoptic inference."""
    given = cfg.model.get('test_cfg') or {}
    panoptic = (given.get('panoptic') or {}).get('object_threshold')
    if 'panoptic_head' not in cfg.model or 'panoptic' not in modes or panoptic is None:
        return []
    lines = []
    for mode in modes:
        kind = result_kinds()[mode]
        default = kind.full_settings({}).get('object_threshold')
        is_default = 'object_threshold' not in (given.get(mode) or {})
        if mode != 'panoptic' and kind.form == PANOPTIC and is_default and default not in (None, panoptic):
            lines.append(
                f"'{mode}' has the default object threshold, {default}; 'panoptic' has {panoptic}, from the config. To "
                f'compare like with like: --cfg-options model.test_cfg.{mode}.object_threshold={panoptic}'
            )
    return lines


def _chosen(modes: Sequence[str] | None, possible: Sequence[str]) -> list[str]:
    unknown = [mode for mode in modes or () if mode not in possible]
    if unknown:
        raise ValueError(f'modes: found {unknown}, expected some of {list(possible)}, which this model has')
    return list(modes or possible)


class _Counter:
    """Accumulates the counts of one inference mode.

    Args:
        field: field of the samples with the result.
        form: form of the result in that field.
        trained: model and data.
    """

    def __init__(self, field: str, form: str, trained: Trained):
        self.field, self.form = field, form
        self.num_classes = trained.head.num_classes
        labels_field = field if form == SEMANTIC else OWN_LABELS
        of_labels: dict[str, Any] = {'ignore_index': getattr(trained.dataset, 'ignore_index', 255)}
        of_labels |= truth_settings(trained.config, 'SemanticMetric')
        of_segments = truth_settings(trained.config, 'PanopticMetric')
        self.labels = SemanticMetric(field=labels_field, classwise=False, **of_labels)
        self.panoptic = PanopticMetric(field=field, **of_segments) if trained.is_panoptic else None
        self.label_rows: list[tuple] = []
        self.segment_rows: list[tuple] = []
        for metric in filter(None, (self.labels, self.panoptic)):
            metric.dataset_meta = trained.dataset.metainfo

    def add(self, sample: Any) -> None:
        """Add an image.

        Raises:
            ValueError: if it has no ground truth.
        """
        entry = sample.to_dict()
        if self.form == PANOPTIC:
            found = entry[self.field]
            listed = [segment['id'] for segment in found['segments']]
            segments = segments_of_codes(found['sem_seg'].cpu().numpy()[0], self.num_classes, listed)
            labels = labels_of_pixels(segments, self.num_classes, num_classes=self.num_classes)
            entry[OWN_LABELS] = {'sem_seg': torch.from_numpy(labels)[None]}
        try:
            self.label_rows.append(self.labels.process_sample(entry))
            if self.panoptic is not None:
                self.segment_rows.append(self.panoptic.process_sample(entry)[:2])
        except KeyError as error:  # raised by our metrics for an image without ground truth
            raise ValueError(error.args[0]) from error

    def row(self, is_thing: Sequence[bool]) -> list[float]:
        """All metrics, from mIoU to PQ of stuff classes, in percent."""
        counts = LabelCounts.from_rows((rows for _, rows in once_per_image(self.label_rows)), self.num_classes)
        assert isinstance(counts, LabelCounts)
        values = [pixel_quality(counts).mean_iou, *mean_quality(counts)[:3]]
        if self.panoptic is None:
            values += [float('nan')] * 3
        else:
            rows = (rows for _, rows in once_per_image(self.segment_rows))
            segments = SegmentCounts.from_rows(rows, self.num_classes)
            things = torch.tensor(is_thing).numpy()
            values += [mean_quality(segments, chosen).pq for chosen in (None, things, ~things)]
        return [100 * value for value in values]


def _of_detector(cfg: Config, checkpoint: str | Path, modes: Sequence[str] | None) -> list[list[Cell]]:
    """All results of a panoptic model in one test step."""
    kinds = {name: kind for name, kind in result_kinds().items() if kind.form in (PANOPTIC, SEMANTIC)}
    modes = _chosen(modes, list(kinds))
    given = cfg.model.get('test_cfg') or {}
    # Replaced completely: results that are not evaluated, such as instances, would cost time.
    cfg.model.test_cfg = ConfigDict({mode: given.get(mode) or {} for mode in modes})
    trained = load_config(cfg, checkpoint)
    counters = {mode: _Counter(kinds[mode].field, kinds[mode].form or '', trained) for mode in modes}
    for batch in track(trained.loader, description='images'):
        with trained.testing():
            samples = trained.model.test_step(batch)
        for sample in samples:
            for counter in counters.values():
                counter.add(sample)
    outputs = trained.model.panoptic_fusion_head.outputs
    rows: list[list[Cell]] = []
    for mode, counter in counters.items():
        settings = kinds[mode].full_settings(outputs[mode])
        text = ' '.join(f'{key}={settings[key]}' for key in sorted(settings))
        rows.append([mode, *counter.row(trained.is_thing), text])
    return rows


def _of_segmentor(cfg: Config, checkpoint: str | Path, modes: Sequence[str] | None) -> list[list[Cell]]:
    """Let the host predict with a semantic model once for each mode, with the outputs of the network cached."""
    trained = load_config(cfg, checkpoint)
    possible = INFERENCE if getattr(trained.head, 'has_class_logits', True) else INFERENCE[:1]
    modes = _chosen(modes, possible)
    model, base = trained.model, dict(trained.model.test_cfg or {})
    threshold = base.pop('object_threshold', 0.3)
    settings = {
        'semantic': dict(base, inference='semantic'),
        'general': dict(base, inference='general', object_threshold=threshold),
    }
    counters = {mode: _Counter('pred_sem_seg', SEMANTIC, trained) for mode in modes}
    for batch in track(trained.loader, description='images'):
        with network_once(model) as rewind, trained.testing():
            for mode, counter in counters.items():
                rewind()
                model.test_cfg = ConfigDict(settings[mode])
                for sample in model.test_step(batch):
                    counter.add(sample)
    return [
        [mode, *counter.row(trained.is_thing), f'object_threshold={threshold}' if mode == 'general' else '']
        for mode, counter in counters.items()
    ]


@contextmanager
def network_once(model: Any) -> Iterator[Callable[[], None]]:
    """Run backbone and head of a segmentor once per batch, no matter how often it predicts.

    The outputs are cached in the order of the calls, so sliding windows work as well.

    Args:
        model: a segmentor of MMSegmentation with our head.

    Yields:
        A function to call before each prediction of the same batch.
    """
    head = model.decode_head
    extract, predict = model.extract_feat, head.predict_masks
    outputs: list[tuple] = []
    position = 0

    def rewind() -> None:
        nonlocal position
        position = 0

    def extract_once(inputs):
        return extract(inputs) if position == len(outputs) else None

    def predict_once(features, metas, *, sliding):
        nonlocal position
        if position == len(outputs):
            outputs.append(predict(features, metas, sliding=sliding))
        position += 1
        return outputs[position - 1]

    model.extract_feat, head.predict_masks = extract_once, predict_once
    try:
        yield rewind
    finally:
        del model.extract_feat, head.predict_masks
