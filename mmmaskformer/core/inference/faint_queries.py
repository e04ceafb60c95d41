"""Queries that can add little to the score of any class; their mask logits are made only where that decides."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.losses import at_least_float32

FAINT = 0.1
"""A query is faint if it gives no class a higher probability."""

BLOCK = 4
"""Side of the blocks of the network's grid in which mask logits are made."""

BLOCKS_AT_A_TIME = 512
"""Bounds the memory of the blocks' inputs."""


def strong_and_faint(class_probs: Tensor) -> tuple[Tensor, Tensor] | None:
    """Divide the queries (Q, K), if it pays: None if less than half of them are faint, or all."""
    faint = class_probs.amax(1) <= FAINT
    count = int(faint.sum())
    if not len(faint) / 2 <= count < len(faint):
        return None
    return (~faint).nonzero()[:, 0], faint.nonzero()[:, 0]


class FaintQueries:
    """Faint queries of one image.

    Args:
        class_probs: (R, K) float, without "no object".
        mask_embed: (R, C) float.
        last_conv: what would make the mask features of the image.

    Attributes:
        class_probs: (R, K).
        bound: (K,) the most that they add to the score of a class anywhere.
    """

    def __init__(self, class_probs: Tensor, mask_embed: Tensor, last_conv: LastConv):
        self.class_probs = class_probs
        self.bound = class_probs.sum(0)
        self._x = last_conv.x[0]
        self._kernels, self._offsets = last_conv.folded(mask_embed)
        blocks = [-(-side // BLOCK) for side in self._x.shape[1:]]
        # Memory that nobody writes to is not taken from the system.
        self._logits = class_probs.new_empty(blocks[0], BLOCK, blocks[1], BLOCK, len(class_probs))
        self._known = torch.zeros(blocks, dtype=torch.bool, device=class_probs.device)

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Mask logits (n, s, t, R) at the crossings of rows (n, s) and columns (n, t) of the network's grid."""
        rows, columns = rows[:, :, None], columns[:, None]
        wanted = torch.zeros_like(self._known)
        wanted[rows // BLOCK, columns // BLOCK] = True
        for blocks in (wanted & ~self._known).nonzero().split(BLOCKS_AT_A_TIME):
            self._logits[blocks[:, 0], :, blocks[:, 1]] = self._convolved(blocks)
        self._known |= wanted
        return self._logits.flatten(2, 3).flatten(0, 1)[rows, columns]

    def _convolved(self, blocks: Tensor) -> Tensor:
        """Mask logits (n, BLOCK, BLOCK, R) of some blocks (n, 2)."""
        windows, inside = [], []
        for axis, kernel in enumerate(self._kernels.shape[2:]):
            window = torch.arange(-(kernel // 2), BLOCK + kernel // 2, device=blocks.device)
            window = blocks[:, axis, None] * BLOCK + window
            length = self._x.shape[1 + axis]
            windows.append(window.clamp(0, length - 1))
            inside.append((window >= 0) & (window < length))
        patches = self._x[:, windows[0][:, :, None], windows[1][:, None]].transpose(0, 1)
        patches = patches * (inside[0][:, None, :, None] & inside[1][:, None, None])
        logits = F.conv2d(patches.to(self._kernels.dtype), self._kernels, self._offsets)
        return at_least_float32(logits).permute(0, 2, 3, 1)
