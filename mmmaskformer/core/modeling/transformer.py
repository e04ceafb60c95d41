"""Post-norm transformer layers as in DETR."""

import copy

from torch import Tensor, nn

from mmmaskformer.core.modeling.fuse import relu_after


def clone_layers(layer: nn.Module, num_layers: int) -> nn.ModuleList:
    """Copy a layer and re-initialise every matrix of every copy.

    Vectors (the biases of the linear layers) keep the values of the first layer in all copies, as published: the
    official code copies one layer and then applies Xavier initialisation to parameters of two or more dimensions.

    Args:
        layer: the layer to copy.
        num_layers: number of copies.

    Returns:
        ``num_layers`` modules.
    """
    layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
    for parameter in layers.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return layers


class TransformerEncoderLayer(nn.Module):
    """Self-attention of the memory and feed-forward; a LayerNorm after each.

    Args:
        channels: width of the memory.
        num_heads: attention heads; must divide ``channels``.
        ffn_channels: hidden width of the feed-forward part.
        dropout: probability, for attention weights, the hidden feed-forward layer and each residual.

    Source: official code, TransformerEncoderLayer.forward_post.
    """

    def __init__(self, *, channels: int, num_heads: int, ffn_channels: int, dropout: float):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(channels, ffn_channels)
        self.linear2 = nn.Linear(ffn_channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, position: Tensor) -> Tensor:
        """Update the memory.

        Args:
            x: (B, P, channels) float.
            position: broadcastable to ``x``; added to queries and keys, not to values.

        Returns:
            (B, P, channels) float.
        """
        placed = x + position
        x = self.norm1(x + self.dropout(self.self_attn(placed, placed, x, need_weights=False)[0]))
        hidden = self.dropout(relu_after(self.linear1, self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class TransformerDecoderLayer(nn.Module):
    """Optional self-attention of the queries, cross-attention to the memory, feed-forward; a LayerNorm after each.

    Args:
        channels: width of queries and memory.
        num_heads: attention heads; must divide ``channels``.
        ffn_channels: hidden width of the feed-forward part.
        dropout: probability, for attention weights, the hidden feed-forward layer and each residual.
        self_attention: False omits the self-attention and its LayerNorm.

    Source: paper, section 3.4 (transformer module); official code, TransformerDecoderLayer.forward_post.
    """

    def __init__(
        self, *, channels: int, num_heads: int, ffn_channels: int, dropout: float, self_attention: bool = True
    ):
        super().__init__()
        self.self_attn = None
        if self_attention:
            self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(channels, ffn_channels)
        self.linear2 = nn.Linear(ffn_channels, channels)
        self.norm1 = nn.LayerNorm(channels) if self_attention else None
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, *, query_pos: Tensor, memory_pos: Tensor) -> Tensor:
        """Update the queries.

        Args:
            x: (B, Q, channels) float.
            memory: (B, P, channels) float.
            query_pos: broadcastable to ``x``; added to queries and keys, not to values.
            memory_pos: broadcastable to ``memory``; added to keys, not to values.

        Returns:
            (B, Q, channels) float.
        """
        if self.self_attn is not None and self.norm1 is not None:
            placed = x + query_pos
            x = self.norm1(x + self.dropout(self.self_attn(placed, placed, x, need_weights=False)[0]))
        attended = self.cross_attn(x + query_pos, memory + memory_pos, memory, need_weights=False)[0]
        x = self.norm2(x + self.dropout(attended))
        hidden = self.dropout(relu_after(self.linear1, self.linear1(x)))
        return self.norm3(x + self.dropout(self.linear2(hidden)))
