"""Masks of a view, tile by tile: their bounds in a tile and their values at its pixels."""

import torch
from torch import Tensor

from mmmaskformer.core.inference.labels.views import Axis, ScoreView, Taps

TILE_SIZES = (32, 8)
"""Sides of the tiles in output pixels, tried in this order; each divides the previous one."""


class AxisTiles:
    """Precomputed maps for the tiles along one axis.

    Args:
        axis: axis of a view.
        side: side of the tiles, in output pixels. There are t tiles, enough for complete tiles of the largest size.

    Attributes:
        index: (t, s) int64 positions on the network's grid.
        before: (t, u, s) float, the part of `Axis.before` for each tile, as a matrix.
        after: (t, side, u) float, likewise for `Axis.after`, or None.
        weight: smallest and largest sum (t,) of the weights in `Axis.after`: 0 outside of a sliding window.
    """

    def __init__(self, axis: Axis, side: int):
        count = -(-axis.size // TILE_SIZES[0]) * (TILE_SIZES[0] // side)
        positions = torch.arange(count * side, device=axis.before.inputs.device)
        positions = positions.clamp_(max=axis.size - 1).view(count, side)
        self.after: Tensor | None = None
        self.weight = axis.before.weight.new_ones(2, count).unbind()
        if axis.after is not None:
            sums = axis.after.weight.sum(1)[positions]
            self.weight = sums.amin(1), sums.amax(1)
            positions, self.after = _matrices(axis.after, positions)
        self.index, self.before = _matrices(axis.before, positions)


def _matrices(taps: Taps, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (t, s) of groups of outputs (t, r), and the matrices (t, r, s) that map one to the other."""
    index, weight = taps.rows(outputs)
    last = int(taps.inputs.amax())
    start = torch.where(weight > 0, index, last).amin((1, 2))
    stop = torch.where(weight > 0, index, 0).amax((1, 2))
    length = max(1, int((stop - start).amax()) + 1)
    place = (index - start[:, None, None]).clamp(0, length - 1)
    matrices = weight.new_zeros(*outputs.shape, length).scatter_add_(2, place, weight)
    return (start[:, None] + torch.arange(length, device=start.device)).clamp(max=last), matrices


class Tiled:
    """A view divided into tiles.

    Args:
        view: view of an image.
        side: side of the tiles, in output pixels; one of `TILE_SIZES`.
    """

    def __init__(self, view: ScoreView, side: int):
        self.view = view
        self.rows, self.columns = AxisTiles(view.rows, side), AxisTiles(view.columns, side)

    def mask_bounds(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value (n, Q) of each mask, as used in the scores, in some tiles (n, 2)."""
        rows, columns = tiles.unbind(1)
        pooled_rows, place = rows.unique(return_inverse=True)
        bounds = []
        for pick in (torch.minimum, torch.maximum):
            tall = _pool(self.view.mask_logits, self.rows.index[pooled_rows], pick)
            extreme = _pool(tall.transpose(0, 1), self.columns.index, pick)
            values = self.view.activated(extreme[columns, place])
            weighted = [values * (self.rows.weight[j][rows] * self.columns.weight[j][columns])[:, None] for j in (0, 1)]
            bounds.append(pick(*weighted))
        return bounds[0], bounds[1]

    def sees(self, tiles: Tensor) -> Tensor:
        """Whether (n,) tiles (n, 2) overlap the view: all except those outside of a sliding window."""
        rows, columns = tiles.unbind(1)
        return (self.rows.weight[1][rows] > 0) & (self.columns.weight[1][columns] > 0)

    def num_masks(self, classes: Tensor) -> int:
        """Number of masks that contribute to the scores of some classes (k,)."""
        return len(classes) if self.view.class_probs is None else len(self.view.class_probs)

    def scores(self, tiles: Tensor, classes: Tensor) -> Tensor:
        """Scores (n, side, side, k) of some classes (k,) in some tiles (n, 2)."""
        if self.view.class_probs is None:
            return self.masks(tiles, classes)
        return self.masks(tiles) @ self.view.class_probs[:, classes]

    def masks(self, tiles: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Some resized masks (n, side, side, q), all Q if None, as used in the scores, in some tiles (n, 2)."""
        rows, columns = tiles.unbind(1)
        index = self.rows.index[rows][:, :, None], self.columns.index[columns][:, None]
        if chosen is None:
            patches = self.view.mask_logits[index]
        else:
            patches = self.view.mask_logits[index[0][..., None], index[1][..., None], chosen]
        masks = self.view.activated(_resample(patches, self.rows.before[rows], self.columns.before[columns]))
        if self.rows.after is None:
            return masks
        assert self.columns.after is not None, 'a view is resized along both axes or neither'
        return _resample(masks, self.rows.after[rows], self.columns.after[columns])


def _pool(maps: Tensor, index: Tensor, pick) -> Tensor:
    """Minimum or maximum (t, ...) of maps (n, ...) over the positions (t, s) of each tile."""
    result = maps[index[:, 0]]
    for positions in index[:, 1:].unbind(1):
        pick(result, maps[positions], out=result)
    return result


def _resample(patches: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resample patches (n, s, s', Q) with their matrices (n, r, s) and (n, r', s') to (n, r, r', Q)."""
    tall = (rows @ patches.flatten(2)).unflatten(2, patches.shape[2:])
    return columns[:, None] @ tall
