"""Semantic label maps in bounded memory: the class scores (K, H, W) are never stored.

In each tile, the lowest and highest mask logits bound the score of each class. In most tiles, the lower bound of one
class is above the upper bounds of all others, so its label is certain. Other tiles are divided into smaller ones, and
tiles that are still undecided are computed pixel by pixel, among the remaining classes. The labels equal those of the
plain computation, except that where two scores are equal up to rounding, the order of additions may decide.
"""

import operator
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from mmmaskformer.core.inference.checks import checked_inference
from mmmaskformer.core.inference.labels.tiles import TILE_SIZES, Tiled
from mmmaskformer.core.inference.labels.views import ScoreView, score_view
from mmmaskformer.core.inference.query_masks import CHUNK_ELEMENTS, QueryMasks

SLACK = 1e-5
"""Margin by which a lower bound must exceed the other upper bounds; larger than the float32 rounding of a score."""

FAINT = 1e-3
"""A query is faint if it adds at most this much to any class at any pixel."""


@checked_inference
def semantic_labels(class_logits: Tensor, masks: QueryMasks, *, resize_masks_first: bool = False) -> Tensor:
    """Label map of one image: the arg-max of `semantic_inference` over the classes, without its scores.

    Args:
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries.
        resize_masks_first: False for the order 'after', True for 'before', see `semantic`.

    Returns:
        (H, W) int32 at the output size; where scores are equal up to rounding, any of their classes.

    Raises:
        ValueError: if arguments are inconsistent; NonFiniteLogitsError, if logits are inf or NaN.

    Source: paper, section 3.3 (semantic inference). Time and memory are ours.
    """
    return label_map([score_view(class_logits, masks, resize_masks_first=resize_masks_first)])


@torch.compiler.disable  # the amount of work depends on the values
@torch.no_grad()  # labels have no gradient, and buffers are overwritten
def label_map(views: Sequence[ScoreView]) -> Tensor:
    """Class with the highest sum of scores over some views of one image.

    Args:
        views: one or more views, all with the same classes and output size.

    Returns:
        (H, W) int32; where scores are equal up to rounding, any of their classes. All 0 if there are no queries.
    """
    device = views[0].mask_logits.device
    height, width = views[0].rows.size, views[0].columns.size
    if not any(view.mask_logits.shape[2] for view in views):
        return torch.zeros(height, width, dtype=torch.int32, device=device)
    grid = [torch.arange(-(-side // TILE_SIZES[0]), device=device) for side in (height, width)]
    labels = torch.empty([len(x) * TILE_SIZES[0] for x in grid], dtype=torch.int32, device=device)
    with torch.autocast(device.type, enabled=False):
        strong, rests = zip(*map(strong_part, views), strict=True)
        levels = [[Tiled(view, side) for view in strong] for side in TILE_SIZES]
        everything = [Tiled(view, TILE_SIZES[-1]) for view in views]
        for band in grid[0].split(_band_height(views)):
            _label_band(labels, levels, everything, sum(rests), torch.cartesian_prod(band, grid[1]))
    return labels[:height, :width]


def strong_part(view: ScoreView) -> tuple[ScoreView, Tensor]:
    """A view without its faint queries, if these are the majority; and the most that they add to each class (K,)."""
    if view.class_probs is None:
        return view, view.mask_logits.new_zeros(view.num_classes)
    reach = view.mask_logits.amax((0, 1)).sigmoid()[:, None] * view.class_probs
    strong = reach.amax(1) > FAINT
    chosen = strong.nonzero()[:, 0]
    if not 0 < len(chosen) <= len(strong) / 2:
        return view, torch.zeros_like(view.class_probs[0])
    part = view._replace(class_probs=view.class_probs[chosen], mask_logits=view.mask_logits[..., chosen])
    return part, (reach * ~strong[:, None]).sum(0)


def _band_height(views: Sequence[ScoreView]) -> int:
    """Number of rows of the largest tiles whose bounds are stored at a time."""
    limit = CHUNK_ELEMENTS.get(views[0].mask_logits.device.type, CHUNK_ELEMENTS['cuda'])
    widest = max(view.mask_logits[0].numel() for view in views)
    return max(1, limit * TILE_SIZES[-1] // (TILE_SIZES[0] * widest))


def _label_band(
    labels: Tensor,
    levels: Sequence[Sequence[Tiled]],
    everything: Sequence[Tiled],
    rest: Tensor,
    tiles: Tensor,
) -> None:
    """Write the labels of some of the largest tiles.

    Args:
        labels: label map of the image, written in place.
        levels: the strong queries of all views, for each size of tiles.
        everything: all queries of all views, in the smallest tiles.
        rest: (K,) the most that the other queries add to each class.
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
    _label_pixels(labels, levels[-1], everything, rest, classes, tiles)


def _label_pixels(
    labels: Tensor,
    strong: Sequence[Tiled],
    everything: Sequence[Tiled],
    rest: Tensor,
    classes: Tensor,
    tiles: Tensor,
) -> None:
    """Write the labels of the smallest tiles from the scores of their pixels.

    Args:
        labels, everything, rest: see `_label_band`.
        strong: the strong queries of all views, in the smallest tiles.
        classes: (k,) that can win.
        tiles: (n, 2) of the smallest tiles.
    """
    side, exact = TILE_SIZES[-1], not bool(rest.any())
    for chunk in tiles.split(_chunk_size(everything, classes)):
        scores = _scores(strong, chunk, classes)
        best = scores.argmax(-1)
        _write(labels, chunk, classes[best], side)
        if not exact:
            chunk = chunk[~_decided(scores, best, rest[classes])]
            if len(chunk):
                _write(labels, chunk, classes[_scores(everything, chunk, classes).argmax(-1)], side)


def _divide(tiles: Tensor, parts: int) -> Tensor:
    """Rows and columns of the tiles (n * parts ** 2, 2) into which the tiles (n, 2) are divided."""
    offsets = torch.cartesian_prod(*[torch.arange(parts, device=tiles.device)] * 2)
    return (tiles[:, None] * parts + offsets).flatten(0, 1)


def _write(labels: Tensor, tiles: Tensor, values: Tensor, side: int) -> None:
    """Write values (n, side, side), or one per tile (n, 1, 1), into the tiles of a label map."""
    rows, columns = tiles.unbind(1)
    labels.unflatten(1, (-1, side)).unflatten(0, (-1, side))[rows, :, columns] = values.to(labels.dtype)


def _chunk_size(summands: Sequence[Tiled], classes: Tensor) -> int:
    """Number of the smallest tiles to compute at a time."""
    limit = CHUNK_ELEMENTS.get(classes.device.type, CHUNK_ELEMENTS['cuda'])
    widest = max(len(classes), *(summand.num_masks(classes) for summand in summands))
    return max(1, limit // (TILE_SIZES[-1] ** 2 * widest))


def _bound(summands: Sequence[Tiled], rest: Tensor, tiles: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Label (n,) of each tile, whether (n,) it is certain, and the classes that can win in tiles where it is not."""
    upper = rest[classes]
    lower = torch.zeros_like(upper)
    for summand in summands:
        low, high = summand.mask_bounds(tiles)
        lower = lower + summand.view.of_classes(low, classes)
        upper = upper + summand.view.of_classes(high, classes)
    most, best = lower.max(1)
    rivals = upper >= most[:, None] - SLACK
    decided = rivals.scatter(1, best[:, None], False).any(1).logical_not()
    return classes[best], decided, classes[rivals[~decided].any(0)]


def _scores(summands: Sequence[Tiled], tiles: Tensor, classes: Tensor) -> Tensor:
    """Scores (n, side, side, k) of some classes in tiles, pixel by pixel."""
    return reduce(operator.add, (_scores_of(summand, tiles, classes) for summand in summands))


def _scores_of(summand: Tiled, tiles: Tensor, classes: Tensor) -> Tensor:
    """The contribution of one view to the scores, 0 in tiles outside of it."""
    seen = summand.sees(tiles)
    found = summand.scores(tiles[seen], classes)
    if len(found) == len(tiles):
        return found
    return found.new_zeros(len(tiles), *found.shape[1:]).masked_scatter_(seen[:, None, None, None], found)


def _decided(scores: Tensor, best: Tensor, rest: Tensor) -> Tensor:
    """Whether (n,) the rest (k,) cannot change the best class of any pixel of a tile; scores are overwritten."""
    best = best[..., None]
    most = scores.gather(-1, best) - SLACK
    return (scores.add_(rest).scatter_(-1, best, 0).amax(-1, keepdim=True) < most).flatten(1).all(1)
