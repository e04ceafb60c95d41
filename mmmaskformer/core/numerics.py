"""Small numerical helpers that training and inference share."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class NonFiniteLogitsError(FloatingPointError, ValueError):
    """Class logits, mask logits or boxes contain inf or NaN, so that nothing can be matched or predicted."""


def at_least_float32(x: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32, since h * w and sums of logits overflow in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def first_order_only(switch: str) -> Callable[[Callable], Callable]:
    """Decorator of a backward pass that has no second derivatives.

    torch's `once_differentiable` alone refuses only some of them: where the incoming gradients are constants, the
    results would silently count as constants as well.

    Args:
        switch: the fast path without which there are second derivatives, for the message.

    Returns:
        The decorator. A decorated backward pass raises a RuntimeError under ``create_graph=True``.
    """

    def decorate(backward: Callable) -> Callable:
        once = once_differentiable(backward)

        @functools.wraps(backward)
        def checking(ctx: Any, *grads: Tensor) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError(
                    f'create_graph=True requires second derivatives, which the fast path {switch!r} does not have. '
                    f'Fix: mmmaskformer.core.set_fast_paths({switch}=False) before the forward pass'
                )
            return once(ctx, *grads)

        return checking

    return decorate


def log_sigmoid(logits: Tensor, probs: Tensor, *, tails: bool = True, out: Tensor | None = None) -> Tensor:
    """log(sigmoid(x)) from x and its sigmoid; many times faster than `torch.nn.functional.logsigmoid`.

    Where the sigmoid underflows the result is x, which is an upper bound everywhere. Its absolute error is a rounding
    error of 1; it is not differentiable.

    Args:
        logits: x, float32 or float64.
        probs: sigmoid(x), of the same shape.
        tails: False if all logits are known to be above -80, where nothing underflows.
        out: where to write the result; a new tensor if None.
    """
    if not tails:
        return torch.log(probs, out=out)
    result = torch.clamp(probs, min=torch.finfo(probs.dtype).tiny, out=out).log_()
    return torch.minimum(result, logits, out=result)
