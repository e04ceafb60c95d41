"""Checks of a checkpoint before a head loads its weights."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmmaskformer.checkpoints.layouts import describe_layout
from mmmaskformer.formats.messages import some


def require_finite_weights(weights: Mapping[str, Tensor], origin: str) -> None:
    """Check that no weight of a checkpoint is inf or NaN, as after a diverged run.

    Args:
        weights: weights by name.
        origin: origin of the checkpoint, for the message.

    Raises:
        ValueError: if there are such weights; names them.
    """
    wrong = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        raise ValueError(
            f'checkpoint {origin}: {len(wrong)} of its {len(weights)} weights hold inf or NaN '
            f'({some(wrong)}). Fix: use an earlier checkpoint of that run.'
        )


def require_usable_weights(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], origin: str) -> None:
    """Check that the weights of a checkpoint are numbers that the model can hold.

    torch converts every type silently: integers of a quantised file to floats, complex numbers to their real parts, and
    float64 values beyond the range of float32 to inf.

    Args:
        own: weights of the model by name.
        weights: weights of the checkpoint by name; those that the model lacks are not checked.
        origin: origin of the checkpoint, for the message.

    Raises:
        ValueError: if weights are inf or NaN, or of another kind than those of the model; names them.
    """
    shared = {name: value for name, value in weights.items() if name in own and isinstance(value, Tensor)}
    floats = {name: value for name, value in shared.items() if own[name].is_floating_point()}
    wrong = [name for name, value in floats.items() if not _is_plain_float(value)]
    if wrong:
        kinds = sorted({_kind_of(shared[name]) for name in wrong})
        raise ValueError(
            f'checkpoint {origin}: {len(wrong)} of its {len(shared)} weights are {" and ".join(kinds)} '
            f'({some(wrong)}), expected dense floating-point numbers, which are not quantised. Fix: save them as '
            'float32.'
        )
    # the range of the model's type counts
    require_finite_weights(shared | {name: value.to(own[name].dtype) for name, value in floats.items()}, origin)


def _is_plain_float(value: Tensor) -> bool:
    return value.is_floating_point() and value.layout == torch.strided and not value.is_quantized


def _kind_of(value: Tensor) -> str:
    return ' '.join(str(part).removeprefix('torch.') for part in (value.layout, value.dtype))


def require_own_weights(own: Collection[str], found: Collection[str], head: str, everything: Collection[str]) -> None:
    """Check that a checkpoint has weights of the head; otherwise the model would predict at random.

    Args:
        own: names of the head's parameters, as the checkpoint should have them.
        found: names in the checkpoint; those of other parts may be omitted.
        head: config key of the head, for the message.
        everything: all names in the checkpoint, to recognise its kind; empty if only those of the head are known.

    Raises:
        ValueError: if it has none; describes the checkpoint.
    """
    if not own or not set(own).isdisjoint(found):
        return
    if everything:
        what, fix = describe_layout(everything)
    else:
        what, fix = f"no name begins with '{min(own).split('.')[0]}.'", 'use a checkpoint of this model'
    raise ValueError(
        f'checkpoint: none of the {len(own)} weights of {head} is in it, expected names such as {min(own)}; {what}. '
        f'Fix: {fix}.'
    )
