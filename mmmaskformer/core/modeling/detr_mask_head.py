"""DETR's mask head, which up-samples the attention map of every query separately; for comparison with ours.

MaskFormer replaces it by one pixel decoder for all queries: "the mask head in DETR is N times more computationally
expensive than the mask head in MaskFormer". `tools/benchmark/mask_heads.py` measures both.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskformer.core.modeling.layers import caffe2_xavier_

NORM_GROUPS = 8
WIDTHS = (2, 4, 8, 16)
"""Divisors of the width of DETR for the layers after the first."""


class QueryAttentionMap(nn.Module):
    """Attention of queries to the memory, without values: one map per query and head.

    Args:
        channels: width of queries and memory.
        num_heads: must divide ``channels``.

    Source: DETR, section 3.3; its code, MHAttentionMap. The softmax is over the maps of all heads of a query together.
    """

    def __init__(self, *, channels: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(channels, channels)
        self.key_proj = nn.Linear(channels, channels)
        for layer in (self.query_proj, self.key_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, states: Tensor, memory: Tensor) -> Tensor:
        """Attend.

        Args:
            states: (B, Q, channels) float.
            memory: (B, channels, h, w) float.

        Returns:
            (B, Q, num_heads, h, w) float; all maps of a query sum to 1.
        """
        queries = self.query_proj(states).unflatten(2, (self.num_heads, -1))
        keys = F.conv2d(memory, self.key_proj.weight[:, :, None, None], self.key_proj.bias)
        keys = keys.unflatten(1, (self.num_heads, -1))
        scores = torch.einsum('bqnc,bnchw->bqnhw', queries * queries.shape[-1] ** -0.5, keys)
        return scores.flatten(2).softmax(-1).view_as(scores)


class DetrMaskHead(nn.Module):
    """Masks from attention maps, with a separate feature pyramid for each query.

    Args:
        in_channels: channels of the features of strides 16, 8 and 4, in this order.
        channels: width of projected feature, memory and queries; must be divisible by 128 (the norms have 8 groups).
        num_heads: attention maps per query; a multiple of 8 that divides ``channels``.

    Raises:
        ValueError: if ``channels`` is not divisible by 128.

    Source: DETR, section 3.3 and figure 8; its code, MaskHeadSmallConv and DETRsegm.
    """

    def __init__(self, *, in_channels: Sequence[int], channels: int = 256, num_heads: int = 8):
        super().__init__()
        if channels % (NORM_GROUPS * WIDTHS[-1]):
            raise ValueError(f'channels: found {channels}, expected a multiple of {NORM_GROUPS * WIDTHS[-1]}')
        self.attention = QueryAttentionMap(channels=channels, num_heads=num_heads)
        widths = [channels + num_heads, channels + num_heads, *(channels // part for part in WIDTHS)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.norms = nn.ModuleList(nn.GroupNorm(NORM_GROUPS, width) for width in widths[1:])
        self.adapters = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(in_channels, widths[2:5], strict=True))
        self.mask_conv = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                caffe2_xavier_(module)

    def forward(self, states: Tensor, projected: Tensor, memory: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Predict masks.

        Args:
            states: (B, Q, channels) float, of the transformer decoder.
            projected: (B, channels, h', w') float, the coarsest feature before the transformer.
            memory: the same after the transformer encoder.
            features: (B, C_i, h_i, w_i) of strides 16, 8 and 4, in this order.

        Returns:
            Mask logits (B, Q, h, w) on the grid of the finest feature.
        """
        maps = self.attention(states, memory).flatten(0, 1)
        num_queries = states.shape[1]
        x = torch.cat([projected.repeat_interleave(num_queries, 0), maps], 1)
        for level, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x)).relu()
            if 1 <= level <= len(features):
                lateral = self.adapters[level - 1](features[level - 1])
                x = F.interpolate(x, size=lateral.shape[-2:], mode='nearest')
                x = x + lateral.repeat_interleave(num_queries, 0)
        return self.mask_conv(x).unflatten(0, (-1, num_queries))[:, :, 0]
