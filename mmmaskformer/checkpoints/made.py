"""Tensors that some packages store but that follow from the architecture: computed here for such packages."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmmaskformer.checkpoints.names import Made
from mmmaskformer.checkpoints.sizes import Architecture, Swin
from mmmaskformer.checkpoints.templates import Indices

NO_OBJECT_WEIGHT = 0.1
"""Published weight of the class "no object" in the loss."""


def make(made: Made, architecture: Architecture, no_object_weight: float = NO_OBJECT_WEIGHT) -> dict[str, Tensor]:
    """Compute the tensors of a row, by their names in the package; empty if the architecture has none.

    Args:
        made: the row.
        architecture: architecture of the model.
        no_object_weight: weight of "no object" in the loss.
    """
    return {
        name: value
        for indices, value in _values(made.kind, architecture, no_object_weight)
        for name in made.theirs.fill(indices)
    }


def position_index(window: int) -> Tensor:
    """The row of Swin's relative-position bias table for each pair of tokens of a window: (window², window²) int64.

    Args:
        window: side length of a window in tokens.

    Source: Swin, WindowAttention.
    """
    grid = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offset = grid[:, None] - grid[None] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def _values(kind: str, architecture: Architecture, no_object_weight: float) -> Iterator[tuple[Indices, Tensor]]:
    if kind == 'class_weights':
        if architecture.head.kind != 'mask':
            return
        weights = torch.ones(architecture.head.num_classes + 1)
        weights[-1] = no_object_weight
        yield {}, weights
        return
    net = architecture.backbone
    if kind == 'nothing' or not isinstance(net, Swin):
        return
    if kind in ('swin_ones', 'swin_zeros'):
        yield {}, torch.full((net.widths[-1],), float(kind == 'swin_ones'))
        return
    assert kind == 'relative_position_index', kind
    index = position_index(net.window)
    for stage, blocks in enumerate(net.blocks):
        for block in range(blocks):
            yield {'s': stage, 'b': block}, index.clone()
