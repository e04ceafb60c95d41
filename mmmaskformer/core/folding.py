"""Mask logits through the folded last convolution of the pixel decoder.

The mask features F are a convolution of some x with a kernel W. The logits of n queries, E F, are then the convolution
of x with the n kernels E W. The backward pass through these kernels costs n / C of the one through W and F. In
inference with fewer than C queries, F is not computed at all.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from mmmaskformer.core.torch_versions import is_compiling

HOOKS_ON_ALL = (
    torch_module._global_forward_hooks,
    torch_module._global_forward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_module._global_backward_pre_hooks,
)
"""torch's global hooks, which apply to every module."""


class LastConv(NamedTuple):
    """The convolution that computes the mask features: stride 1, odd kernel, zero padding that keeps the size.

    Attributes:
        x: (B, C', h, w) float, its input.
        weight: (C, C', k, k) float.
        bias: (C,) float.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, conv: nn.Conv2d, x: Tensor) -> 'LastConv':
        """The convolution of a module for which `can_fold` is true, with its input.

        In distributed training the weights are copied, since sharded weights of a module are freed at the end of its
        forward pass.
        """
        assert conv.bias is not None, '`can_fold` requires a bias'
        if dist.is_available() and dist.is_initialized():
            return cls(x, conv.weight.clone(), conv.bias.clone())
        return cls(x, conv.weight, conv.bias)

    def of_image(self, image: int) -> 'LastConv':
        """The convolution for one image of the batch."""
        # From the strides of `x[image, None]`, convolutions would not recognise channels last.
        return self._replace(x=self.x[image : image + 1])

    def mask_features(self) -> Tensor:
        """(B, C, h, w) float, of the dtype of the input."""
        return self._convolved(self.weight, self.bias)

    def mask_logits(self, mask_embed: Tensor) -> Tensor:
        """Mask logits (n, h, w) of some queries (n, C) of the only image, without computing the mask features."""
        mask_embed = mask_embed.to(self.weight.dtype)  # the two differ under autocast
        if not len(mask_embed) and not (self.x.requires_grad or self.weight.requires_grad):
            return self.x.new_zeros(0, *self.x.shape[2:])
        if len(mask_embed) >= len(self.weight) or not len(mask_embed):  # a convolution has at least one kernel
            return multiply_out(mask_embed, self.mask_features()[0])
        kernels = (mask_embed @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return self._convolved(kernels, mask_embed @ self.bias)[0]

    def _convolved(self, kernels: Tensor, offsets: Tensor) -> Tensor:
        """The input convolved with kernels (n, C', k, k) and offsets (n,); (B, n, h, w)."""
        padding = self.weight.shape[2] // 2, self.weight.shape[3] // 2
        if kernels.dtype != self.x.dtype:  # an input that was computed under autocast, which has ended
            kernels, offsets = kernels.to(self.x.dtype), offsets.to(self.x.dtype)
        return F.conv2d(self.x, kernels, offsets, padding=padding)


def can_fold(conv: nn.Module) -> bool:
    """Whether a module is exactly a convolution that `LastConv` can represent.

    A replaced, parametrised or sharded module is not, nor is one with a ``forward`` of its own, or with hooks, its own
    or those of torch on every module: they require that it is called, and that its output has gradients.
    """
    # A parametrised or sharded module has a derived class.
    if type(conv) is not nn.Conv2d or conv.bias is None or conv.padding_mode != 'zeros' or 'forward' in vars(conv):
        return False
    hooks = [conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks, conv._backward_pre_hooks]
    if not is_compiling():
        hooks += HOOKS_ON_ALL
    same_size = conv.padding == tuple(length // 2 for length in conv.kernel_size)
    return same_size and (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1) and not any(hooks)


def multiply_out(mask_embed: Tensor, mask_features: Tensor) -> Tensor:
    """Mask logits of some queries of one image: the product of the two factors.

    Args:
        mask_embed: (n, C) float.
        mask_features: (C, h, w) float.

    Returns:
        (n, h, w) float.
    """
    return (mask_embed @ mask_features.flatten(1)).unflatten(1, mask_features.shape[1:])


class FoldedProduct(torch.autograd.Function):
    """Mask logits of some queries of every image: the plain product, whose backward pass goes through the convolution.

    The gradient of `multiply_out` of each image, with the features as `LastConv.mask_features` computes them, in the
    precision in which the convolution ran.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mask_features, mask_embed, counts) -> Tensor:
        """Multiply.

        Args:
            x, weight, bias: see `LastConv`.
            mask_features: (B, C, h, w) float, the values of the convolution, without gradients.
            mask_embed: (N, C) float, the queries of one image after the other.
            counts: B numbers of queries, N in all; each may be 0.

        Returns:
            (N, h, w) of the dtype of the embeddings.
        """
        ctx.save_for_backward(x, weight, bias, mask_embed)
        ctx.conv_dtype, ctx.counts = mask_features.dtype, counts
        logits = mask_embed.new_empty(len(mask_embed), *mask_features.shape[2:])
        for embed, features, part in zip(mask_embed.split(counts), mask_features, logits.split(counts), strict=True):
            torch.mm(embed, features.flatten(1).to(embed.dtype), out=part.flatten(1))
        return logits

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mask_embed = ctx.saved_tensors
        of_images = _gradients(grad, mask_embed, x, weight, bias, ctx.counts, ctx.conv_dtype)
        if torch.is_grad_enabled():  # create_graph: they are differentiated again, so nothing is written in place
            embed_grads, x_grads, *conv_grads = zip(*of_images, strict=True)
            x_grad, embed_grad = torch.stack(x_grads).to(x.dtype), torch.cat(embed_grads).to(mask_embed.dtype)
        else:
            x_grad, embed_grad, by_image = torch.empty_like(x), torch.empty_like(mask_embed), []
            parts = zip(of_images, embed_grad.split(ctx.counts), x_grad, strict=True)
            for (of_embed, of_x, *of_conv), embed_part, x_part in parts:
                embed_part[:], x_part[:] = of_embed, of_x
                by_image.append(of_conv)
            conv_grads = list(zip(*by_image, strict=True))
        weight_grad, bias_grad = (sum(parts) for parts in conv_grads)
        return x_grad, weight_grad.to(weight.dtype), bias_grad.to(bias.dtype), None, embed_grad, None


def _gradients(
    grad: Tensor,
    embed: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    counts: Sequence[int],
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, ...]]:
    """Gradients of embeddings, input, weight and bias of each image, computed in a dtype; see `FoldedProduct`."""
    conv = weight.to(dtype), bias.to(dtype)
    for of_logits, of_embed, of_x in zip(grad.split(counts), embed.split(counts), x, strict=True):
        back = _back if len(of_embed) < len(weight) else _back_unfolded
        yield back(of_logits.to(dtype), of_embed.to(dtype), of_x.to(dtype), *conv)


def _back(grad: Tensor, embed: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Gradients of embeddings, input, weight and bias through the n kernels and offsets of the logits of one image.

    Args:
        grad: (n, h, w) of the logits.
        embed: (n, C).
        x: (C', h, w).
        weight: (C, C', k, k).
        bias: (C,).
    """
    if not len(embed):
        return tuple(torch.zeros_like(tensor) for tensor in (embed, x, weight, bias))
    flat = weight.flatten(1)
    kernels = (embed @ flat).unflatten(1, weight.shape[1:])
    x_grad, kernel_grad, offset_grad = _conv_backward(grad, x, kernels)
    kernel_grad = kernel_grad.flatten(1)
    embed_grad = kernel_grad @ flat.T + offset_grad[:, None] * bias
    return embed_grad, x_grad, (embed.T @ kernel_grad).view_as(weight), embed.T @ offset_grad


def _back_unfolded(grad: Tensor, embed: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """The same through the C kernels of the mask features, which are recomputed: cheaper if n >= C."""
    features = F.conv2d(x[None], weight, bias, padding=(weight.shape[2] // 2, weight.shape[3] // 2))[0]
    embed_grad = grad.flatten(1) @ features.flatten(1).T
    return embed_grad, *_conv_backward(multiply_out(embed.T, grad), x, weight)


def _conv_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """torch's own gradients of input, weight and bias of a convolution of one image."""
    padding = [weight.shape[2] // 2, weight.shape[3] // 2]
    x_grad, weight_grad, bias_grad = torch.ops.aten.convolution_backward(
        grad[None], x[None], weight, [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, [True, True, True]
    )
    return x_grad[0], weight_grad, bias_grad
