"""Compare an exported file with the model it came from, on synthetic scenes.

The model runs as usual: the host's data preprocessor, the head, and the inference functions of the core. Except for the
network itself, none of the exported code is used.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmmaskformer.core.inference.panoptic import panoptic_inference
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, QueryMasks
from mmmaskformer.core.inference.semantic import semantic_inference
from mmmaskformer.core.quality.semantic_quality import LabelCounts, count_labels, pixel_quality
from mmmaskformer.datasets.scenes.scenes import CLASSES, IGNORE_LABEL, Scene, make_scene
from mmmaskformer.export.files import Runner
from mmmaskformer.export.modules import head_of

LOGIT_TOLERANCE = 1e-3
"""Tolerance for logits, relative to the largest logit, for float32 arithmetic in another order."""

PIXEL_TOLERANCE = 1e-3
"""Tolerated share of differing pixels: where two classes or queries are almost equal, rounding decides."""


class Difference(NamedTuple):
    """The difference between a file and its model on one batch.

    Attributes:
        shape: (B, H, W) of the batch.
        logits: largest difference of class and mask logits.
        scale: largest absolute logit of the model.
        pixels: share of the pixels whose result differs: label; segment, see `differing_segments`; mask with the
            largest logit for raw outputs.
    """

    shape: tuple[int, int, int]
    logits: float
    scale: float
    pixels: float

    @property
    def small(self) -> bool:
        """Whether both are within the tolerances."""
        return self.logits <= LOGIT_TOLERANCE * max(1.0, self.scale) and self.pixels <= PIXEL_TOLERANCE


def check_shapes(size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Batches (B, H, W) to compare: different counts, sides divisible by 32 and not, upright and wide.

    Raises:
        ValueError: if ``size`` is too small for scenes or for files of torch.export.
    """
    height, width = size
    if min(size) < 64:
        raise ValueError(f'size: found {tuple(size)}, expected height and width of at least 64')
    return [(1, height, width), (2, height + 1, width + 13), (3, width + 5, height + 7)]


def compare(model: nn.Module, task: str, run: Runner, shapes: Sequence[tuple[int, int, int]]) -> list[Difference]:
    """Run file and model on scenes.

    Args:
        model: model of either host, in evaluation mode.
        task: task of the file.
        run: function that runs the file.
        shapes: (B, H, W) of each batch.

    Returns:
        One entry for each batch.
    """
    rng = np.random.default_rng(0)
    differences = []
    for batch, *size in shapes:
        images = as_images([make_scene(rng, tuple(size)) for _ in range(batch)])
        found, expected = run(images), model_outputs(model, task, images)
        raw = [(found[key], expected[key]) for key in ('class_logits', 'mask_logits')]
        differences.append(
            Difference(
                (batch, *size),
                max(float(np.abs(a - b).max()) for a, b in raw),
                max(float(np.abs(b).max()) for _, b in raw),
                float(_differing(task, found, expected).mean()),
            )
        )
    return differences


def as_images(scenes: Sequence[Scene]) -> np.ndarray:
    """Images of one size as (B, 3, H, W) uint8 RGB."""
    return np.ascontiguousarray(np.stack([scene.image for scene in scenes]).transpose(0, 3, 1, 2))


def _differing(task: str, found: dict, expected: dict) -> np.ndarray:
    """Which pixels differ, bool."""
    if task == 'semantic':
        return found['labels'] != expected['labels']
    if task == 'panoptic':
        tables = [outputs[key] for outputs in (found, expected) for key in ('segment_ids', 'segment_labels')]
        return np.stack([differing_segments(*rows) for rows in zip(*tables, strict=True)])
    return found['mask_logits'].argmax(1) != expected['mask_logits'].argmax(1)


def differing_segments(
    ids: np.ndarray, labels: np.ndarray, other_ids: np.ndarray, other_labels: np.ndarray
) -> np.ndarray:
    """Pixels at which two panoptic results of an image differ, regardless of segment numbers.

    Two segments match if they have the same class and each overlaps the other more than any other segment. A small
    segment close to a threshold, present in only one result, changes the numbers of all later segments, but only its
    pixels count.

    Args:
        ids: (H, W) int, 0 is void, i + 1 is row i of the table.
        labels: (S,) int, class of each segment.
        other_ids: (H, W), ids of the other result.
        other_labels: (S',), likewise.

    Returns:
        (H, W) bool, True where the segments of the two results do not match.
    """
    rows, columns = len(labels) + 1, len(other_labels) + 1
    joint = ids.astype(np.int64) * columns + other_ids
    areas = np.bincount(joint.ravel(), minlength=rows * columns).reshape(rows, columns)
    same = np.zeros(areas.shape, bool)
    same[0, 0] = True
    overlap = areas[1:, 1:]
    mutual = (overlap > 0) & (overlap == overlap.max(1, initial=0, keepdims=True))
    mutual &= overlap == overlap.max(0, initial=0, keepdims=True)
    same[1:, 1:] = mutual & (np.asarray(labels)[:, None] == np.asarray(other_labels))
    return ~same[ids, other_ids]


def labels_of(task: str, outputs: dict) -> np.ndarray:
    """Label maps (B, H, W) of the outputs, -1 where there is none; task 'semantic' or 'panoptic'."""
    if task == 'semantic':
        return outputs['labels']
    ids, labels = outputs['segment_ids'], outputs['segment_labels']
    with_void = np.concatenate([np.full_like(labels[:, :1], -1), labels], 1)
    return np.take_along_axis(with_void, ids.reshape(len(ids), -1), 1).reshape(ids.shape)


@torch.no_grad()
def model_outputs(model: nn.Module, task: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of the model itself, under the names of the file's outputs.

    Args:
        model: model of either host, in evaluation mode.
        task: one of `mmmaskformer.export.modules.OUTPUTS`.
        images: (B, 3, H, W) uint8 RGB.

    Returns:
        The outputs; tables of segments have as many rows as there are queries.
    """
    size = images.shape[-2:]
    inputs = [torch.from_numpy(image[::-1].copy()) for image in images]  # BGR, as the hosts read files
    samples = [BaseDataElement(metainfo=dict(img_shape=size, ori_shape=size)) for _ in inputs]
    x = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), False)['inputs']
    head = head_of(model)
    prediction = head.classifier(head.prepare(model.extract_feat(x)), all_layers=False)[-1]
    deferred = DeferredMaskLogits(prediction.masks, tuple(x.shape[-2:]))
    masks = [deferred.of_image(image, size, size) for image in range(len(images))]
    pairs = list(zip(prediction.class_logits, masks, strict=True))
    if task == 'semantic':
        outputs = dict(labels=torch.stack([semantic_inference(*pair).argmax(0) for pair in pairs]))
    else:
        outputs = _panoptic_outputs(model, pairs) if task == 'panoptic' else {}
    outputs['class_logits'] = prediction.class_logits
    outputs['mask_logits'] = torch.stack([mask.coarse_logits() for mask in masks])
    return {key: value.numpy() for key, value in outputs.items()}


def _panoptic_outputs(model: nn.Module, pairs: Sequence[tuple[Tensor, QueryMasks]]) -> dict[str, Tensor]:
    settings = model.panoptic_fusion_head.settings('panoptic')
    results = [panoptic_inference(*pair, **settings) for pair in pairs]
    rows = len(pairs[0][0])
    labels = [nn.functional.pad(result.labels, (0, rows - len(result.labels)), value=-1) for result in results]
    return dict(segment_ids=torch.stack([result.ids for result in results]), segment_labels=torch.stack(labels))


def scene_miou(task: str, run: Runner, count: int = 40) -> float:
    """mIoU in percent of a file on held-out scenes.

    Args:
        task: 'semantic' or 'panoptic'; the classes must be those of the scenes.
        run: function that runs the file.
        count: number of scenes, 96 x 128 pixels.

    Returns:
        The mIoU; pixels without a segment count as wrong.
    """
    rng = np.random.default_rng(1)
    counts = LabelCounts.zeros(len(CLASSES))
    for _ in range(count):
        scene = make_scene(rng, (96, 128))
        labels = labels_of(task, run(as_images([scene])))[0]
        counts += count_labels(scene.semantic, labels, num_classes=len(CLASSES), ignore_index=IGNORE_LABEL)
    return 100 * pixel_quality(counts).mean_iou
