"""Checks of a checkpoint before a head loads its weights."""

from collections.abc import Collection, Mapping

from torch import Tensor

from mmmaskformer.checkpoints.layouts import SHOWN, describe_layout


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
        more = f' and {len(wrong) - SHOWN} more' if len(wrong) > SHOWN else ''
        raise ValueError(
            f'checkpoint {origin}: {len(wrong)} of its {len(weights)} weights hold inf or NaN '
            f'({", ".join(wrong[:SHOWN])}{more}). Fix: give an earlier checkpoint of that run.'
        )


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
        what, fix = f"no name begins with '{min(own).split('.')[0]}.'", 'give a checkpoint of this model'
    raise ValueError(
        f'checkpoint: none of the {len(own)} weights of {head} is in it, expected names such as {min(own)}; {what}. '
        f'Fix: {fix}.'
    )
