"""Multi-head attention in a form that exporters follow for every size."""

from torch import Tensor, nn
from torch.nn import functional as F


class PortableAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` for evaluation, without masks, with sizes taken from the tensors.

    PyTorch's own forward fixes the number of tokens of the example when it is traced.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        """Attend.

        Args:
            query: (B, P, channels) float, or (P, B, channels) without ``batch_first``; key and value likewise.
            key: see ``query``.
            value: see ``query``.
            need_weights: must be False.

        Returns:
            The result in the form of ``query``, and None.
        """
        inputs = (query, key, value)
        if not self.batch_first:
            inputs = tuple(x.transpose(0, 1) for x in inputs)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        result = self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return (result if self.batch_first else result.transpose(0, 1)), None


def make_portable(model: nn.Module) -> None:
    """Replace every plain `nn.MultiheadAttention` in a model, in place, by a `PortableAttention`."""
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and module.in_proj_weight is not None and module.bias_k is None:
            # The parameters keep their names, so that other code still finds them.
            module.__class__ = PortableAttention
