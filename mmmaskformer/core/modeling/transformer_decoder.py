"""Transformer decoder: learned queries and the memory to query embeddings of every layer."""

from torch import Tensor, nn

from mmmaskformer.core.checks import BOOLEAN, FRACTION, checked, whole
from mmmaskformer.core.modeling.layers import caffe2_xavier_, sine_position_encoding
from mmmaskformer.core.modeling.transformer import TransformerDecoderLayer, clone_layers
from mmmaskformer.core.part_outputs import input_dtype_of, width_of
from mmmaskformer.core.shapes import form_of, is_float
from mmmaskformer.core.torch_versions import is_recorded


@checked(
    in_channels=whole(1),
    num_queries=whole(1),
    channels=whole(1),
    num_layers=whole(1),
    num_heads=whole(1),
    ffn_channels=whole(1),
    dropout=FRACTION,
    self_attention=BOOLEAN,
)
class TransformerDecoder(nn.Module):
    """Queries attend to the memory in a stack of layers; a shared LayerNorm is applied to the output of each layer.

    The memory is projected to ``channels`` unless it already has that width. There is no padding mask: padding is
    attended to like the image, as published.

    Args:
        in_channels: channels of the memory.
        num_queries: Q.
        channels: width of the transformer.
        num_layers: L.
        num_heads: attention heads.
        ffn_channels: hidden width of the feed-forward parts.
        dropout: probability.
        self_attention: whether queries attend to each other, as published; False is an ablation of the paper.

    Raises:
        ValueError: if ``num_heads`` does not divide ``channels`` or a count is below 1: without a query there are no
            masks, and without a layer no query sees the image.

    Source: paper, section 3.4 (transformer module) and appendix D (depth, no self-attention); official code,
    TransformerPredictor.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_queries: int = 100,
        channels: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        ffn_channels: int = 2048,
        dropout: float = 0.1,
        self_attention: bool = True,
    ):
        super().__init__()
        if channels % num_heads:
            raise ValueError(f'num_heads: found {num_heads}, expected a divisor of channels={channels}')
        self.channels = channels
        self.memory_proj: nn.Module = nn.Identity()
        if in_channels != channels:
            self.memory_proj = nn.Conv2d(in_channels, channels, 1)
            caffe2_xavier_(self.memory_proj)
        self.query_embed = nn.Embedding(num_queries, channels)
        layer = TransformerDecoderLayer(
            channels=channels,
            num_heads=num_heads,
            ffn_channels=ffn_channels,
            dropout=dropout,
            self_attention=self_attention,
        )
        self.layers = clone_layers(layer, num_layers)
        self.norm = nn.LayerNorm(channels)

    def forward(self, memory: Tensor) -> list[Tensor]:
        """Decode the queries.

        Args:
            memory: (B, in_channels, h, w) float.

        Returns:
            L tensors (B, Q, channels), normalised, the last one final.

        Raises:
            ValueError: if the memory has another shape or, outside of autocast, another dtype than the weights.
        """
        self._check(memory)
        memory = self.memory_proj(memory)
        position = sine_position_encoding((memory.shape[2], memory.shape[3]), self.channels, memory.device).to(
            memory.dtype
        )
        memory, position = (grid.flatten(2).transpose(1, 2) for grid in (memory, position))
        query_pos = self.query_embed.weight[None].expand(memory.shape[0], -1, -1)  # len() would fix B in an export
        x = query_pos.new_zeros(query_pos.shape)
        states = []
        for layer in self.layers:
            x = layer(x, memory, query_pos=query_pos, memory_pos=position)
            states.append(x)
        return [self.norm(state) for state in states]

    def _check(self, memory: Tensor) -> None:
        if is_recorded():
            return
        is_projected = not isinstance(self.memory_proj, nn.Identity)
        channels = width_of(self.memory_proj) if is_projected else self.channels
        dtype = input_dtype_of(self.memory_proj if is_projected else self.query_embed)
        fits = is_float(memory) and memory.ndim == 4 and channels in (None, memory.shape[1])
        if not fits or dtype not in (None, memory.dtype):
            kind = 'float' if dtype is None else f'{str(dtype).removeprefix("torch.")}, like its weights'
            raise ValueError(
                f'{type(self).__name__}: the memory is {form_of(memory)}; expected (B, {channels or "C"}, h, w) '
                f'{kind}. Fix: correct the pixel decoder'
            )
