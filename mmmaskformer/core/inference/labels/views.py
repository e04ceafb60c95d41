"""The class scores of an image as factors: class probabilities, mask logits, and maps from the grid to the pixels."""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.upsampling import interpolation_matrix


class Taps(NamedTuple):
    """A linear map along one axis in which every output depends on few inputs.

    Attributes:
        inputs: (N, t) int64, indices of the inputs of each output.
        weight: (N, t) float at least 0, their weights.
    """

    inputs: Tensor
    weight: Tensor

    @classmethod
    def bilinear(cls, low: int, high: int, like: Tensor) -> 'Taps':
        """Bilinear resize from ``low`` to ``high`` positions, with torch's own weights."""
        matrix = interpolation_matrix(low, high, like)
        first = (matrix != 0).to(torch.uint8).argmax(1)
        index = torch.stack([first, (first + 1).clamp(max=low - 1)], 1)
        weight = matrix.gather(1, index)
        weight[:, 1] *= index[:, 1] > first  # the last input has no neighbour
        return cls(index, weight)

    def after(self, first: 'Taps') -> 'Taps':
        """This map applied to the outputs of another."""
        inputs, weight = first.inputs[self.inputs], first.weight[self.inputs] * self.weight[:, :, None]
        return Taps(inputs.flatten(1), weight.flatten(1))

    def rows(self, chosen: slice | Tensor) -> 'Taps':
        """The map to some outputs only, in the given order."""
        return Taps(self.inputs[chosen], self.weight[chosen])

    def applied(self, maps: Tensor, axis: int) -> Tensor:
        """Apply the map along one axis of a tensor (..., n, ...), which becomes (..., N, ...)."""
        shape = [1] * maps.ndim
        shape[axis] = -1
        taps = zip(self.inputs.unbind(1), self.weight.unbind(1), strict=True)
        return reduce(operator.add, (maps.index_select(axis, index) * weight.view(shape) for index, weight in taps))


class Axis(NamedTuple):
    """The map from mask logits to class scores along one axis: ``after(sigmoid(before(logits)))``.

    Attributes:
        before: map from the network's grid to the grid of the sigmoid; the weights of an output sum to 1.
        after: map from there to the output; None for the identity.
    """

    before: Taps
    after: Taps | None = None

    @property
    def size(self) -> int:
        """Positions of the output."""
        return len((self.after or self.before).inputs)

    def mirrored(self) -> 'Axis':
        """The same with the output reversed."""
        order = torch.arange(self.size - 1, -1, -1, device=self.before.inputs.device)
        return Axis(self.before.rows(order)) if self.after is None else Axis(self.before, self.after.rows(order))


class ScoreView(NamedTuple):
    """One summand of the class scores of an image: a whole view, or one window of it.

    Attributes:
        class_probs: (Q, K) float, without "no object". None for a per-pixel model: the masks are those of the classes
            (Q is K), and their resized logits are the scores, without a sigmoid.
        mask_logits: (h, w, Q) float.
        rows: map from h rows to those of the output.
        columns: map from w columns to those of the output.
    """

    class_probs: Tensor | None
    mask_logits: Tensor
    rows: Axis
    columns: Axis

    @property
    def num_classes(self) -> int:
        """K."""
        return self.mask_logits.shape[2] if self.class_probs is None else self.class_probs.shape[1]

    def activated(self, logits: Tensor) -> Tensor:
        """The contribution of masks to the scores before weighting: their probabilities; may overwrite ``logits``."""
        return logits if self.class_probs is None else logits.sigmoid_()

    def of_classes(self, masks: Tensor, classes: Tensor) -> Tensor:
        """Scores (..., k) of some classes (k,) from the contributions of all masks (..., Q)."""
        return masks[..., classes] if self.class_probs is None else masks @ self.class_probs[:, classes]


@torch.compiler.disable  # part of `label_map`, which cannot be compiled
def score_view(class_logits: Tensor | None, masks: QueryMasks, *, resize_masks_first: bool = False) -> ScoreView:
    """The input of `label_map` for one view of an image; arguments as in `semantic_labels`.

    Without class logits, each mask belongs to one class, see `ScoreView`.
    """
    logits = masks.coarse_logits().permute(1, 2, 0).contiguous()
    axes = []
    for coarse, padded, image, out in zip(
        logits.shape[:2], masks.input_size, masks.image_size, masks.out_size, strict=True
    ):
        to_image = Taps.bilinear(coarse, padded, logits).rows(slice(image))
        to_output = Taps.bilinear(image, out, logits)
        axes.append(Axis(to_output.after(to_image)) if resize_masks_first else Axis(to_image, to_output))
    if masks.image_size == masks.out_size:
        axes = [Axis(axis.before) for axis in axes]
    if masks.flipped:
        axes[1] = axes[1].mirrored()
    return ScoreView(_class_probs(class_logits), logits, *axes)


@torch.compiler.disable  # part of `label_map`, which cannot be compiled
def window_view(
    class_logits: Tensor | None,
    mask_logits: Tensor,
    *,
    rows: slice,
    columns: slice,
    weights: tuple[Tensor, Tensor],
    image_size: tuple[int, int],
    out_size: tuple[int, int],
    padded_size: tuple[int, int] | None = None,
) -> ScoreView:
    """The input of `label_map` for one sliding window; its scores are weighted and added to those of the others.

    Args:
        class_logits: (Q, K + 1) float, or None, see `score_view`.
        mask_logits: (Q, h, w) float, of the window.
        rows: start and stop of the window in the padded input.
        columns: likewise.
        weights: (H,) and (W,) float, weights of a window at each position of the padded input; the weight of a pixel is
            the product of both.
        image_size: (height, width) of the image within the padded input, at the top left.
        out_size: (height, width) of the output.
        padded_size: (height, width) to which the logits are up-sampled, if larger than the window; the rest is cropped.
    """
    if padded_size is None:
        padded_size = (rows.stop - rows.start, columns.stop - columns.start)
    logits = at_least_float32(mask_logits).permute(1, 2, 0).contiguous()
    axes = []
    for coarse, padded, window, weight, image, out in zip(
        logits.shape[:2], padded_size, (rows, columns), weights, image_size, out_size, strict=True
    ):
        index, share = Taps.bilinear(image, out, logits)
        inside = (index >= window.start) & (index < window.stop)
        length = window.stop - window.start
        to_output = Taps((index - window.start).clamp(0, length - 1), share * weight.to(logits)[index] * inside)
        axes.append(Axis(Taps.bilinear(coarse, padded, logits).rows(slice(length)), to_output))
    return ScoreView(_class_probs(class_logits), logits, *axes)


@torch.no_grad()
def class_scores(views: Sequence[ScoreView]) -> Tensor:
    """The class scores whose arg-max is computed by `label_map`, multiplied out.

    Args:
        views: one or more views, all with the same classes and output size.

    Returns:
        (K, H, W) float, the sum over the views.
    """
    total: Tensor | None = None
    with torch.autocast(views[0].mask_logits.device.type, enabled=False):
        for view in views:
            masks = view.activated(view.columns.before.applied(view.rows.before.applied(view.mask_logits, 0), 1))
            for axis, side in enumerate((view.rows, view.columns)):
                masks = masks if side.after is None else side.after.applied(masks, axis)
            if view.class_probs is None:
                scores = masks.permute(2, 0, 1)
            else:
                scores = torch.einsum('hwq,qk->khw', masks, view.class_probs)
            total = scores if total is None else total + scores
    assert total is not None, 'there is at least one view'
    return total


def _class_probs(class_logits: Tensor | None) -> Tensor | None:
    return None if class_logits is None else at_least_float32(class_logits).softmax(-1)[:, :-1]
