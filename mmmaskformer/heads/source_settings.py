"""Settings that a checkpoint stores with its weights, compared with the model that loads it."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from mmmaskformer.checkpoints.neutral import ConversionError
from mmmaskformer.checkpoints.source_facts import USUAL_RESNET


def require_same_settings(head: nn.Module, known: Mapping[str, Any]) -> None:
    """Check settings that do not change the shapes of weights: numbers of attention heads and of norm groups.

    Args:
        head: head of the model that loads the weights.
        known: settings of the checkpoint, see `source_facts.known_settings`.

    Raises:
        ConversionError: if the number of attention heads or of groups of a norm differs.
    """
    kinds: tuple[tuple[str, type[nn.Module], str], ...] = (
        ('num_heads', nn.MultiheadAttention, 'num_heads'),
        ('norm_groups', nn.GroupNorm, 'num_groups'),
    )
    for key, kind, attribute in kinds:
        found = {getattr(part, attribute) for part in head.modules() if isinstance(part, kind)}
        if known.get(key) is not None and found - {known[key]}:
            raise ConversionError(
                f'it was trained with {key}={known[key]}, the model has {key}={min(found - {known[key]})}; the '
                f'shapes of the weights do not depend on it. Fix: set {key}={known[key]} in the config'
            )


def differing_settings(model: nn.Module, known: Mapping[str, Any]) -> list[str]:
    """Settings of images and backbone that differ from those of the checkpoint; fine-tuning may change them on purpose.

    Args:
        model: the model that loads the weights.
        known: as in `require_same_settings`.

    Returns:
        For each difference, a description of the checkpoint's and of the model's setting.
    """
    return [
        f'{name} is {_short(theirs)} in the checkpoint and {_short(ours)} in the model'
        for name, theirs, ours in _pairs(model, known)
        if not _same(theirs, ours)
    ]


def _pairs(model: nn.Module, known: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    for key in ('mean', 'std'):
        ours = getattr(preprocessor, key, None)
        if key in known and ours is not None:
            yield f'data_preprocessor.{key}', tuple(known[key]), tuple(ours.flatten().tolist())
    if 'red_first' in known and hasattr(preprocessor, 'channel_conversion'):
        yield 'data_preprocessor.bgr_to_rgb', known['red_first'], preprocessor.channel_conversion
    backbone: Any = getattr(model, 'backbone', None)
    for key, usual in USUAL_RESNET.items():
        if 'backbone' in known and hasattr(backbone, key):
            yield f'backbone.{key}', known['backbone'].get(key, usual), getattr(backbone, key)
    if 'dilations' in known and hasattr(backbone, 'multi_grid'):
        yield 'backbone.multi_grid', known['dilations'], backbone.multi_grid or (1, 1, 1)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return abs(one - other) < 0.01
    return one == other


def _short(value: Any) -> Any:
    return tuple(round(item, 3) for item in value) if isinstance(value, tuple | list) else value
