"""A program of a user, type-checked strictly by `mypy`: the annotations of `mmmaskformer.core` must be complete.

Lines that are wrong on purpose carry the error that a type checker must report; `mypy` refuses one that is not needed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mmmaskformer.core import (
    HungarianMatcher,
    MaskFormer,
    MaskPrediction,
    MaskTarget,
    Matches,
    QueryMasks,
    Segments,
    SetCriterion,
    Targets,
    build_maskformer,
    fuse_for_inference,
    instance_inference,
    panoptic_inference,
    semantic_inference,
    semantic_labels,
    semantic_targets,
    set_fast_paths,
)


class Backbone(nn.Module):
    """One convolution per level, finest first."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = zip((3, *widths), widths, (4, 2, 2, 2), strict=False)
        self.stages = nn.ModuleList(nn.Conv2d(before, after, 3, step, 1) for before, after, step in sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            features.append(x := stage(x))
        return features


def train(model: MaskFormer, images: Tensor, labels: np.ndarray) -> dict[str, float]:
    """The losses of a step, and the matches of the same predictions."""
    targets: Targets = semantic_targets(torch.from_numpy(labels), num_classes=3)
    losses: dict[str, Tensor] = model.loss(images, targets)
    torch.autograd.backward(list(losses.values()))
    first: MaskTarget = targets[0]
    predictions: Sequence[MaskPrediction] = model(images)
    matches: Matches = HungarianMatcher()(predictions, targets)
    criterion = SetCriterion(num_classes=3, matcher=HungarianMatcher(), class_weight={'sky': 2.0})
    criterion.name_classes(['sky', 'tree', 'road'])
    values = {name: value.item() for name, value in criterion(predictions, [first, targets[1]]).items()}
    return values | {'pairs': float(sum(matches.counts(2)))}


def infer(model: MaskFormer, images: Tensor) -> list[tuple[int, ...]]:
    """The shapes of all results of the first image."""
    found: list[tuple[Tensor, QueryMasks]] = fuse_for_inference(model.eval()).predict(images, out_sizes=[(40, 50)] * 2)
    class_logits, masks = found[0]
    is_thing = torch.tensor([True, False, False])
    labels: Tensor = semantic_labels(class_logits, masks)
    scores: Tensor = semantic_inference(class_logits, masks)
    segments: Segments[Tensor] = panoptic_inference(class_logits, masks, is_thing=is_thing, object_threshold=0.1)
    boxes: Tensor = instance_inference(class_logits, masks, is_thing=is_thing).boxes_xyxy
    return [tuple(x.shape) for x in (labels, scores, segments.ids, boxes)]


def main() -> tuple[dict[str, float], list[tuple[int, ...]]]:
    """Train a step and predict, on two images of noise."""
    set_fast_paths(one_pass_loss=True)
    widths = (8, 8, 16, 16)
    model = build_maskformer(
        backbone=Backbone(widths), in_channels=widths, num_classes=3, num_queries=5, channels=16, norm_groups=4
    )
    labels = np.random.default_rng(0).integers(0, 3, (2, 64, 64), np.uint8)
    images = torch.rand(2, 3, 64, 64)
    return train(model, images, labels), infer(model, images)


if TYPE_CHECKING:
    from mmmaskformer.core import NoSuchName  # type: ignore[attr-defined]  # noqa: F401

    build_maskformer(backbone=Backbone((8,)), in_channels=(8,), num_classes='3')  # type: ignore[arg-type]
    instance_inference(torch.zeros(1, 4), torch.zeros(1))  # type: ignore[call-arg, arg-type]
    semantic_targets(torch.zeros(1, 2, 2), 3)  # type: ignore[call-arg]
