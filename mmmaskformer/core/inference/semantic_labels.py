"""Semantic label maps in bounded memory: the class scores (K, H, W) are never made.

Tile by tile, the lowest and highest mask logits that a tile sees bound each class's score there. In most tiles one
class's lower bound is above the upper bounds of all others: the label is known. The other tiles are cut into smaller
ones, and what stays open at the end is computed pixel by pixel, among the classes that the bounds leave. The labels
are those of the plain computation; only where two scores agree to rounding may the order of additions decide.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskformer.core.inference.query_masks import CHUNK_ELEMENTS, QueryMasks
from mmmaskformer.core.losses import at_least_float32
from mmmaskformer.core.upsampling import interpolation_matrix

TILE_SIZES = (32, 8)
"""Sides in output pixels of the tiles that are tried in turn; each divides the one before."""

SLACK = 1e-5
"""How far a lower bound must be above the others; more than float32 rounding moves a score."""


class Axis(NamedTuple):
    """How the class scores of an image depend on mask logits along one axis: ``after @ sigmoid(before @ logits)``.

    Attributes:
        before: (n', n) float at least 0, rows sum to 1: from the network's grid to where the sigmoid is taken.
        after: (N, n') float at least 0, from there to the output; None for no change.
    """

    before: Tensor
    after: Tensor | None = None

    @property
    def size(self) -> int:
        """N, positions of the output."""
        return len(self.before if self.after is None else self.after)

    def mirrored(self) -> 'Axis':
        """The same with the output turned round."""
        if self.after is None:
            return Axis(self.before.flip(0))
        return Axis(self.before, self.after.flip(0))


class ScoreView(NamedTuple):
    """One summand of the class scores of an image: a whole view, or one window of it.

    Attributes:
        class_probs: (Q, K) float, without "no object".
        mask_logits: (h, w, Q) float.
        rows: from h rows to those of the output.
        columns: from w columns to those of the output.
    """

    class_probs: Tensor
    mask_logits: Tensor
    rows: Axis
    columns: Axis


def semantic_labels(class_logits: Tensor, masks: QueryMasks, *, resize_masks_first: bool = False) -> Tensor:
    """Label map of one image: the arg-max of `semantic_inference` over the classes, without its scores.

    Args:
        class_logits: (Q, K + 1) float.
        masks: of the same Q queries.
        resize_masks_first: False for the order 'after', True for 'before', see `semantic`.

    Returns:
        (H, W) int32 at the output size; where scores are equal to rounding, any of their classes.

    Source: paper, section 3.3 (semantic inference). Time and memory are ours.
    """
    return label_map([score_view(class_logits, masks, resize_masks_first=resize_masks_first)])


@torch.compiler.disable  # how much work there is depends on the values
def score_view(class_logits: Tensor, masks: QueryMasks, *, resize_masks_first: bool = False) -> ScoreView:
    """What `label_map` needs of one view of an image; arguments as in `semantic_labels`."""
    logits = masks.coarse_logits().permute(1, 2, 0).contiguous()
    sizes = zip(logits.shape[:2], masks.input_size, masks.image_size, masks.out_size, strict=True)
    before, after = zip(
        *((interpolation_matrix(h, H, logits)[:n], interpolation_matrix(n, N, logits)) for h, H, n, N in sizes),
        strict=True,
    )
    if masks.image_size == masks.out_size:
        axes = [Axis(matrix) for matrix in before]
    elif resize_masks_first:
        with torch.autocast(logits.device.type, enabled=False):
            axes = [Axis(second @ first) for first, second in zip(before, after, strict=True)]
    else:
        axes = [Axis(*both) for both in zip(before, after, strict=True)]
    if masks.flipped:
        axes[1] = axes[1].mirrored()
    return ScoreView(at_least_float32(class_logits).softmax(-1)[:, :-1], logits, *axes)


@torch.compiler.disable  # how much work there is depends on the values
def window_view(
    class_logits: Tensor,
    mask_logits: Tensor,
    *,
    rows: slice,
    columns: slice,
    weights: tuple[Tensor, Tensor],
    image_size: tuple[int, int],
    out_size: tuple[int, int],
) -> ScoreView:
    """What `label_map` needs of one window of a sliding model; its scores are weighted and added to the others'.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float, of the window.
        rows: where the window lies in the padded input, start and stop.
        columns: the same.
        weights: (H,) and (W,) float: how much a window counts at a position of the padded input; at a pixel, the
            product of the two.
        image_size: (height, width) of the image within the padded input, at the top left.
        out_size: (height, width) wanted.
    """
    logits = at_least_float32(mask_logits).permute(1, 2, 0).contiguous()
    axes = []
    for coarse, window, weight, image, out in zip(
        logits.shape[:2], (rows, columns), weights, image_size, out_size, strict=True
    ):
        to_output = F.pad(interpolation_matrix(image, out, logits), (0, len(weight) - image))
        before = interpolation_matrix(coarse, window.stop - window.start, logits)
        axes.append(Axis(before, (to_output * weight.to(logits))[:, window]))
    return ScoreView(at_least_float32(class_logits).softmax(-1)[:, :-1], logits, *axes)


@torch.compiler.disable  # how much work there is depends on the values
def label_map(views: Sequence[ScoreView]) -> Tensor:
    """Class with the highest sum of scores over some views of one image.

    Args:
        views: at least one, all with the same classes and output size.

    Returns:
        (H, W) int32; where scores are equal to rounding, any of their classes.
    """
    device = views[0].class_probs.device
    height, width = views[0].rows.size, views[0].columns.size
    open_tiles = [torch.arange(-(-side // TILE_SIZES[0]), device=device) for side in (height, width)]
    labels = torch.empty([len(x) * TILE_SIZES[0] for x in open_tiles], dtype=torch.int32, device=device)
    tiles = torch.cartesian_prod(*open_tiles)
    classes = torch.arange(views[0].class_probs.shape[1], device=device)
    with torch.autocast(device.type, enabled=False):
        for parent, side in zip((TILE_SIZES[0], *TILE_SIZES), TILE_SIZES, strict=False):
            tiles = _divide(tiles, parent // side)
            summands = [_Tiled(view, side) for view in views]
            best, decided, classes = _bound(summands, tiles, classes)
            _write(labels, tiles[decided], best[decided, None, None], side)
            tiles = tiles[~decided]
            if not len(tiles):
                return labels[:height, :width]
        for chunk in tiles.split(_chunk_size(views, classes)):
            _write(labels, chunk, _compute(summands, chunk, classes), side)
    return labels[:height, :width]


def _divide(tiles: Tensor, parts: int) -> Tensor:
    """Rows and columns (n, 2) of tiles to those of the tiles (n * parts ** 2, 2) that they are made of."""
    offsets = torch.cartesian_prod(*[torch.arange(parts, device=tiles.device)] * 2)
    return (tiles[:, None] * parts + offsets).flatten(0, 1)


def _write(labels: Tensor, tiles: Tensor, values: Tensor, side: int) -> None:
    """Write values (n, side, side), or one per tile (n, 1, 1), into the tiles of a label map."""
    rows, columns = tiles.unbind(1)
    labels.unflatten(1, (-1, side)).unflatten(0, (-1, side))[rows, :, columns] = values.to(labels.dtype)


def _chunk_size(views: Sequence[ScoreView], classes: Tensor) -> int:
    """Number of the smallest tiles to compute at a time."""
    limit = CHUNK_ELEMENTS.get(classes.device.type, CHUNK_ELEMENTS['cuda'])
    widest = max(len(classes), *(len(view.class_probs) for view in views))
    return max(1, limit // (TILE_SIZES[-1] ** 2 * widest))


class _Windows:
    """What the tiles of one axis depend on.

    Attributes:
        index: (t, s) int64 positions on the network's grid.
        before: (t, u, s) float, the part of `Axis.before` that a tile needs.
        after: (t, side, u) float, the same of `Axis.after`, or None.
        weight: smallest and largest sum (t,) of a row of `Axis.after`: 0 outside of the window of a sliding model.
    """

    def __init__(self, axis: Axis, side: int):
        count = -(-axis.size // TILE_SIZES[0]) * (TILE_SIZES[0] // side)
        positions = torch.arange(count * side, device=axis.before.device)
        positions = positions.clamp_(max=axis.size - 1).view(count, side)
        self.after = None
        self.weight = axis.before.new_ones(2, count).unbind()
        if axis.after is not None:
            sums = axis.after.sum(1)[positions]
            self.weight = sums.amin(1), sums.amax(1)
            positions, self.after = _parts(axis.after, positions)
        self.index, self.before = _parts(axis.before, positions)


def _parts(matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (t, s) that groups of rows (t, r) of a matrix use, and the values (t, r, s) there."""
    used = (matrix != 0).to(torch.uint8)
    width = matrix.shape[1]
    some = used.amax(1) > 0
    start = torch.where(some, used.argmax(1), width)[rows].amin(1)
    stop = torch.where(some, width - used.flip(1).argmax(1), 0)[rows].amax(1)
    length = max(1, int((stop - start).amax()))
    columns = start.clamp(max=width - length)[:, None] + torch.arange(length, device=matrix.device)
    return columns, matrix[rows[:, :, None], columns[:, None]]


class _Tiled:
    """A view cut into tiles."""

    def __init__(self, view: ScoreView, side: int):
        self.view = view
        self.rows, self.columns = _Windows(view.rows, side), _Windows(view.columns, side)

    def mask_bounds(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest resized mask probability (n, Q) in each of some tiles (n, 2)."""
        rows, columns = tiles.unbind(1)
        bounds = []
        for i, pick in enumerate((torch.minimum, torch.maximum)):
            extreme = _pool(
                _pool(self.view.mask_logits, self.rows.index, pick).transpose(0, 1), self.columns.index, pick
            )
            weight = self.rows.weight[i][rows] * self.columns.weight[i][columns]
            bounds.append(extreme[columns, rows].sigmoid_() * weight[:, None])
        return bounds[0], bounds[1]

    def masks(self, tiles: Tensor) -> Tensor:
        """Resized mask probabilities (n, side, side, Q) in some tiles (n, 2)."""
        rows, columns = tiles.unbind(1)
        patches = self.view.mask_logits[self.rows.index[rows][:, :, None], self.columns.index[columns][:, None]]
        probs = _resample(patches, self.rows.before[rows], self.columns.before[columns]).sigmoid_()
        if self.rows.after is None:
            return probs
        return _resample(probs, self.rows.after[rows], self.columns.after[columns])


def _pool(maps: Tensor, index: Tensor, pick) -> Tensor:
    """Extreme (t, ...) of maps (n, ...) over the positions (t, s) of each window."""
    result = maps[index[:, 0]]
    for positions in index[:, 1:].unbind(1):
        pick(result, maps[positions], out=result)
    return result


def _resample(patches: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Patches (n, s, s', Q) by their own matrices (n, r, s) and (n, r', s') to (n, r, r', Q)."""
    tall = (rows @ patches.flatten(2)).unflatten(2, patches.shape[2:])
    return columns[:, None] @ tall


def _bound(summands: Sequence[_Tiled], tiles: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Label (n,) of each tile, whether (n,) it is certain, and the classes that can win in tiles where it is not."""
    lower = upper = 0
    for summand in summands:
        low, high = summand.mask_bounds(tiles)
        class_probs = summand.view.class_probs[:, classes]
        lower, upper = lower + low @ class_probs, upper + high @ class_probs
    most, best = lower.max(1)
    rivals = upper >= most[:, None] - SLACK
    decided = rivals.scatter(1, best[:, None], False).any(1).logical_not()
    return classes[best], decided, classes[rivals[~decided].any(0)]


def _compute(summands: Sequence[_Tiled], tiles: Tensor, classes: Tensor) -> Tensor:
    """Labels (n, side, side) of tiles, pixel by pixel, among some classes."""
    scores = sum(summand.masks(tiles) @ summand.view.class_probs[:, classes] for summand in summands)
    return classes[scores.argmax(-1)]
