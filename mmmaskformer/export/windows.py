"""The shifted windows of the hosts' Swin Transformer in a form that exporters follow for every size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORBIDDEN = -100.0
"""Value that the hosts add to the attention score of two tokens that are neighbours only because of the shift."""


class PortableWindows(nn.Module):
    """The hosts' `ShiftWindowMSA` in evaluation, with sizes taken from the tensors and never compared.

    The hosts' own class converts the batch size to a Python number and branches on padding.

    Args:
        block: the host's module; its attention within windows is used.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.w_msa = block.w_msa
        self.window_size = block.window_size
        self.shift_size = block.shift_size

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attend within windows.

        Args:
            query: (B, h * w, C) float.
            hw_shape: (h, w).

        Returns:
            (B, h * w, C) float.
        """
        size, shift = self.window_size, self.shift_size
        x = query.unflatten(1, hw_shape)
        height, width = (side + (-side) % size for side in hw_shape)
        x = first_of(F.pad(x, (0, 0, 0, size, 0, size)), (height, width), dims=(1, 2))
        mask = self._mask(height, width, query.device) if shift else None
        if shift:
            x = torch.roll(x, shifts=(-shift, -shift), dims=(1, 2))
        windows = self.w_msa(self._partition(x), mask=mask)
        grid = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
        x = grid.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])
        if shift:
            x = torch.roll(x, shifts=(shift, shift), dims=(1, 2))
        return first_of(x, hw_shape, dims=(1, 2)).flatten(1, 2)

    def _partition(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B * windows, window_size ** 2, C)."""
        size = self.window_size
        batch, height, width, channels = x.shape
        grid = x.view(batch, height // size, size, width // size, size, channels)
        return grid.transpose(2, 3).reshape(-1, size * size, channels)

    def _mask(self, height: int, width: int, device: torch.device) -> Tensor:
        """Offsets of the attention scores, (windows, window_size ** 2, window_size ** 2)."""
        rows, columns = (self._region(side, device) for side in (height, width))
        regions = self._partition((3 * rows[:, None] + columns)[None, :, :, None]).squeeze(-1)
        apart = regions[:, None, :] != regions[:, :, None]
        return apart.float() * FORBIDDEN

    def _region(self, side: int, device: torch.device) -> Tensor:
        """The strip (of three) of each of ``side`` positions: 0, or 1 and 2 in the last window."""
        position = torch.arange(side, device=device)
        return (position >= side - self.window_size).long() + (position >= side - self.shift_size).long()


def first_of(maps: Tensor, size: tuple[int, int], dims: tuple[int, int] = (-2, -1)) -> Tensor:
    """Crop maps to their upper-left corner; a slice would make exporters compare sizes.

    Args:
        maps: maps of any shape.
        size: (height, width) of the result.
        dims: the dimensions of height and width.

    Returns:
        The cropped maps.
    """
    for length, dim in zip(size, dims, strict=True):
        maps = maps.index_select(dim, torch.arange(length, device=maps.device))
    return maps


def make_windows_portable(model: nn.Module) -> None:
    """Replace every `ShiftWindowMSA` of either host in a model, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if all(hasattr(child, key) for key in ('w_msa', 'shift_size', 'window_reverse')):
                setattr(parent, name, PortableWindows(child))
