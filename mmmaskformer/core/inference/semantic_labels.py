"""Semantic label maps in bounded memory: the class scores (K, H, W) are never made.

Tile by tile, the lowest and highest mask logits that a tile sees bound each class's score there. In most tiles one
class's lower bound is above the upper bounds of all others: the label is known. The other tiles are cut into smaller
ones, and what stays open at the end is computed pixel by pixel, among the classes that the bounds leave. The labels
are those of the plain computation; only where two scores agree to rounding may the order of additions decide.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmmaskformer.core.inference.query_masks import CHUNK_ELEMENTS, QueryMasks
from mmmaskformer.core.losses import at_least_float32
from mmmaskformer.core.upsampling import interpolation_matrix

TILE_SIZES = (32, 8)
"""Sides in output pixels of the tiles that are tried in turn; each divides the one before."""

SLACK = 1e-5
"""How far a lower bound must be above the others; more than float32 rounding moves a score."""

FAINT = 1e-3
"""A query is faint if it adds no more than this to any class anywhere."""


class Taps(NamedTuple):
    """A linear map along one axis of which every output uses few inputs.

    Attributes:
        index: (N, t) int64, the inputs of each output.
        weight: (N, t) float at least 0, their weights.
    """

    index: Tensor
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
        index, weight = first.index[self.index], first.weight[self.index] * self.weight[:, :, None]
        return Taps(index.flatten(1), weight.flatten(1))

    def rows(self, chosen: slice | Tensor) -> 'Taps':
        """The map to some outputs only, in the order asked for."""
        return Taps(self.index[chosen], self.weight[chosen])


class Axis(NamedTuple):
    """How the class scores of an image depend on mask logits along one axis: ``after(sigmoid(before(logits)))``.

    Attributes:
        before: from the network's grid to where the sigmoid is taken; weights of an output sum to 1.
        after: from there to the output; None for no change.
    """

    before: Taps
    after: Taps | None = None

    @property
    def size(self) -> int:
        """Positions of the output."""
        return len((self.after or self.before).index)

    def mirrored(self) -> 'Axis':
        """The same with the output turned round."""
        order = torch.arange(self.size - 1, -1, -1, device=self.before.index.device)
        return Axis(self.before.rows(order)) if self.after is None else Axis(self.before, self.after.rows(order))


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
        index, share = Taps.bilinear(image, out, logits)
        inside = (index >= window.start) & (index < window.stop)
        length = window.stop - window.start
        to_output = Taps((index - window.start).clamp(0, length - 1), share * weight.to(logits)[index] * inside)
        axes.append(Axis(Taps.bilinear(coarse, length, logits), to_output))
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
    grid = [torch.arange(-(-side // TILE_SIZES[0]), device=device) for side in (height, width)]
    labels = torch.empty([len(x) * TILE_SIZES[0] for x in grid], dtype=torch.int32, device=device)
    with torch.autocast(device.type, enabled=False):
        strong, rests = zip(*map(strong_part, views), strict=True)
        levels = [[_Tiled(view, side) for view in strong] for side in TILE_SIZES]
        everything = [_Tiled(view, TILE_SIZES[-1]) for view in views]
        for band in grid[0].split(_band_height(views)):
            _label_band(labels, levels, everything, sum(rests), torch.cartesian_prod(band, grid[1]))
    return labels[:height, :width]


def strong_part(view: ScoreView) -> tuple[ScoreView, Tensor]:
    """A view without its faint queries, if these are the most; and what they add at most to each class (K,)."""
    reach = view.mask_logits.amax((0, 1)).sigmoid()[:, None] * view.class_probs
    strong = reach.amax(1) > FAINT
    chosen = strong.nonzero()[:, 0]
    if not 0 < len(chosen) <= len(strong) / 2:
        return view, torch.zeros_like(view.class_probs[0])
    part = view._replace(class_probs=view.class_probs[chosen], mask_logits=view.mask_logits[..., chosen])
    return part, (reach * ~strong[:, None]).sum(0)


def _band_height(views: Sequence[ScoreView]) -> int:
    """Number of rows of the largest tiles whose bounds are held at a time."""
    limit = CHUNK_ELEMENTS.get(views[0].class_probs.device.type, CHUNK_ELEMENTS['cuda'])
    widest = max(view.mask_logits[0].numel() for view in views)
    return max(1, limit * TILE_SIZES[-1] // (TILE_SIZES[0] * widest))


def _label_band(
    labels: Tensor,
    levels: Sequence[Sequence['_Tiled']],
    everything: Sequence['_Tiled'],
    rest: Tensor,
    tiles: Tensor,
) -> None:
    """Write the labels of some of the largest tiles.

    Args:
        labels: of the image.
        levels: the strong queries of all views, for each size of tiles.
        everything: all queries of all views, in the smallest tiles.
        rest: (K,) what the other queries add at most to each class.
        tiles: (n, 2).
    """
    classes = torch.arange(len(rest), device=tiles.device)
    for parent, side, summands in zip((TILE_SIZES[0], *TILE_SIZES), TILE_SIZES, levels, strict=False):
        tiles = _divide(tiles, parent // side)
        best, decided, classes = _bound(summands, rest, tiles, classes)
        _write(labels, tiles[decided], best[decided, None, None], side)
        tiles = tiles[~decided]
        if not len(tiles):
            return
    exact = not bool(rest.any())
    for chunk in tiles.split(_chunk_size(everything, classes)):
        scores = _scores(summands, chunk, classes)
        best = scores.argmax(-1)
        _write(labels, chunk, classes[best], side)
        if not exact:
            chunk = chunk[~_decided(scores, best, rest[classes])]
            if len(chunk):
                _write(labels, chunk, classes[_scores(everything, chunk, classes).argmax(-1)], side)


def _divide(tiles: Tensor, parts: int) -> Tensor:
    """Rows and columns (n, 2) of tiles to those of the tiles (n * parts ** 2, 2) that they are made of."""
    offsets = torch.cartesian_prod(*[torch.arange(parts, device=tiles.device)] * 2)
    return (tiles[:, None] * parts + offsets).flatten(0, 1)


def _write(labels: Tensor, tiles: Tensor, values: Tensor, side: int) -> None:
    """Write values (n, side, side), or one per tile (n, 1, 1), into the tiles of a label map."""
    rows, columns = tiles.unbind(1)
    labels.unflatten(1, (-1, side)).unflatten(0, (-1, side))[rows, :, columns] = values.to(labels.dtype)


def _chunk_size(summands: Sequence['_Tiled'], classes: Tensor) -> int:
    """Number of the smallest tiles to compute at a time."""
    limit = CHUNK_ELEMENTS.get(classes.device.type, CHUNK_ELEMENTS['cuda'])
    widest = max(len(classes), *(len(summand.view.class_probs) for summand in summands))
    return max(1, limit // (TILE_SIZES[-1] ** 2 * widest))


class _Windows:
    """What the tiles of one axis depend on.

    Attributes:
        index: (t, s) int64 positions on the network's grid.
        before: (t, u, s) float, the part of `Axis.before` that a tile needs, as a matrix.
        after: (t, side, u) float, the same of `Axis.after`, or None.
        weight: smallest and largest sum (t,) of the weights in `Axis.after`: 0 outside of a window.
    """

    def __init__(self, axis: Axis, side: int):
        count = -(-axis.size // TILE_SIZES[0]) * (TILE_SIZES[0] // side)
        positions = torch.arange(count * side, device=axis.before.index.device)
        positions = positions.clamp_(max=axis.size - 1).view(count, side)
        self.after = None
        self.weight = axis.before.weight.new_ones(2, count).unbind()
        if axis.after is not None:
            sums = axis.after.weight.sum(1)[positions]
            self.weight = sums.amin(1), sums.amax(1)
            positions, self.after = _matrices(axis.after, positions)
        self.index, self.before = _matrices(axis.before, positions)


def _matrices(taps: Taps, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (t, s) that groups of outputs (t, r) use, and the matrices (t, r, s) from one to the other."""
    index, weight = taps.rows(outputs)
    last = int(taps.index.amax())
    start = torch.where(weight > 0, index, last).amin((1, 2))
    stop = torch.where(weight > 0, index, 0).amax((1, 2))
    length = max(1, int((stop - start).amax()) + 1)
    place = (index - start[:, None, None]).clamp(0, length - 1)
    matrices = weight.new_zeros(*outputs.shape, length).scatter_add_(2, place, weight)
    return (start[:, None] + torch.arange(length, device=start.device)).clamp(max=last), matrices


class _Tiled:
    """A view cut into tiles."""

    def __init__(self, view: ScoreView, side: int):
        self.view = view
        self.rows, self.columns = _Windows(view.rows, side), _Windows(view.columns, side)

    def mask_bounds(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest resized mask probability (n, Q) in each of some tiles (n, 2)."""
        rows, columns = tiles.unbind(1)
        pooled_rows, place = rows.unique(return_inverse=True)
        bounds = []
        for i, pick in enumerate((torch.minimum, torch.maximum)):
            tall = _pool(self.view.mask_logits, self.rows.index[pooled_rows], pick)
            extreme = _pool(tall.transpose(0, 1), self.columns.index, pick)
            weight = self.rows.weight[i][rows] * self.columns.weight[i][columns]
            bounds.append(extreme[columns, place].sigmoid_() * weight[:, None])
        return bounds[0], bounds[1]

    def sees(self, tiles: Tensor) -> Tensor:
        """Which (n,) of some tiles (n, 2) lie in the view at least in part: all but those outside of a window."""
        rows, columns = tiles.unbind(1)
        return (self.rows.weight[1][rows] > 0) & (self.columns.weight[1][columns] > 0)

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


def _bound(summands: Sequence[_Tiled], rest: Tensor, tiles: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Label (n,) of each tile, whether (n,) it is certain, and the classes that can win in tiles where it is not."""
    lower, upper = 0, rest[classes]
    for summand in summands:
        low, high = summand.mask_bounds(tiles)
        class_probs = summand.view.class_probs[:, classes]
        lower, upper = lower + low @ class_probs, upper + high @ class_probs
    most, best = lower.max(1)
    rivals = upper >= most[:, None] - SLACK
    decided = rivals.scatter(1, best[:, None], False).any(1).logical_not()
    return classes[best], decided, classes[rivals[~decided].any(0)]


def _scores(summands: Sequence[_Tiled], tiles: Tensor, classes: Tensor) -> Tensor:
    """Scores (n, side, side, k) of some classes in tiles, pixel by pixel."""
    scores = 0
    for summand in summands:
        seen = summand.sees(tiles)
        found = summand.masks(tiles[seen]) @ summand.view.class_probs[:, classes]
        if len(found) < len(tiles):
            found = found.new_zeros(len(tiles), *found.shape[1:]).masked_scatter_(seen[:, None, None, None], found)
        scores = scores + found
    return scores


def _decided(scores: Tensor, best: Tensor, rest: Tensor) -> Tensor:
    """Whether (n,) the rest (k,) cannot change the best class of any pixel of a tile; scores are overwritten."""
    best = best[..., None]
    most = scores.gather(-1, best) - SLACK
    return (scores.add_(rest).scatter_(-1, best, 0).amax(-1, keepdim=True) < most).flatten(1).all(1)
