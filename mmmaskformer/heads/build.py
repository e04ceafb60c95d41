"""Build the parts of a head from config dicts; unknown keys are refused."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmmaskformer.core.checks import refuse_unknown_keys
from mmmaskformer.core.training.parts import MaskLoss
from mmmaskformer.registry import part_named

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

PARTS = ('classifier', 'pixel_decoder', 'transformer_decoder', 'matcher', 'criterion')


@contextmanager
def naming(head: str) -> Iterator[None]:
    """Context in which error messages about parts contain their keys in the config.

    Args:
        head: key of the head, such as 'model.decode_head'.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        text = str(error.args[0]) if error.args else ''
        if not text.startswith(PARTS):
            raise
        raise type(error)(f'{head}.{text}') from error


def build_part(name: str, cfg: dict, **derived):
    """Build a part of a head.

    Args:
        name: key of the part in the head's config, for messages.
        cfg: its config, with ``type``. It is not modified.
        derived: arguments that follow from those of the head (class count, widths); the config must not repeat them.

    Returns:
        The built module.

    Raises:
        TypeError: if ``cfg`` is not a dict with a ``type``, or has a key that is not an argument of the part.
        KeyError: if ``type`` is not registered.
    """
    cls = part_class(name, cfg)
    given = {key: value for key, value in cfg.items() if key != 'type'}
    taken = arguments_of(cls)
    refuse_unknown_keys(f'{name} ({cls.__name__})', given, set(taken) - set(derived), derived)
    given = {key: _with_parts(f'{name}.{key}', value, derived) for key, value in given.items()}
    return cls(**given, **{key: value for key, value in derived.items() if key in taken})


def part_class(name: str, cfg: dict) -> type:
    """The class in the config of a part; for arguments and errors see `build_part`."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(f"{name} must be a dict with a 'type' such as 'mmmaskformer.…', got {cfg!r}")
    cls = part_named(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if cls is None:
        raise KeyError(
            f"{name}: type='{cfg['type']}' is not registered in mmmaskformer; expected a part such as "
            "'mmmaskformer.FPNPixelDecoder', or your own class registered in mmmaskformer.registry.MODELS or the host's"
        )
    return cls


def arguments_of(cls: type) -> set[str]:
    """Names of the arguments of a part, including those of base classes to which ``**kwargs`` is passed.

    Otherwise a part that extends one of ours would silently miss derived values, such as the loss weights.
    """
    names: set[str] = set()
    for base in cls.__mro__[:-1] if isinstance(cls, type) else ():
        if '__init__' not in vars(base) or base is nn.Module:
            continue
        parameters = list(inspect.signature(vars(base)['__init__']).parameters.values())[1:]
        names |= {parameter.name for parameter in parameters if parameter.kind in NAMED}
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return names
    return names or {name for name, p in inspect.signature(cls).parameters.items() if p.kind in NAMED}


def _with_parts(name: str, value, derived: dict):
    """Build the parts in a config value, single or in a list; they get derived values as well."""
    if isinstance(value, dict) and 'type' in value:
        return build_part(name, value, **derived)
    if isinstance(value, list | tuple) and any(isinstance(part, dict) and 'type' in part for part in value):
        return [_with_parts(f'{name}[{i}]', part, derived) for i, part in enumerate(value)]
    return value


def build_classifier(
    classifier: dict | None, pixel_decoder: dict | None, transformer_decoder: dict | None, **derived
) -> nn.Module:
    """Build the network of a head.

    Args:
        classifier: config of the network; `MaskClassifier` if None.
        pixel_decoder: config of its pixel decoder, for a network that takes one.
        transformer_decoder: config of its transformer decoder, likewise.
        derived: ``in_channels``, ``num_classes``, ``num_queries`` and ``channels`` of the head, and for mask
            classification ``with_boxes``.

    Raises:
        TypeError: see `build_part`; or if the network does not take a given decoder.
        KeyError: see `build_part`.
    """
    classifier = {'type': 'mmmaskformer.MaskClassifier'} if classifier is None else classifier
    derived = {**derived, 'mask_channels': derived['channels']}
    decoders = {'pixel_decoder': pixel_decoder, 'transformer_decoder': transformer_decoder}
    cls = part_class('classifier', classifier)
    taken = arguments_of(cls)
    for key, cfg in decoders.items():
        if cfg is not None and key not in taken:
            raise TypeError(f'classifier ({cls.__name__}) does not take a {key}. Fix: {key}=None in the head')
    built = {}
    if 'pixel_decoder' in taken:
        built['pixel_decoder'] = build_part('pixel_decoder', pixel_decoder, **derived)
    if 'transformer_decoder' in taken:
        memory = {'in_channels': _memory_channels(built['pixel_decoder'])} if built else {}
        built['transformer_decoder'] = build_part('transformer_decoder', transformer_decoder, **derived | memory)
    return build_part('classifier', classifier, **derived | built)


def _memory_channels(pixel_decoder: nn.Module) -> int:
    """Channels of the memory that a pixel decoder passes to the transformer decoder."""
    channels = getattr(pixel_decoder, 'memory_channels', None)
    if not isinstance(channels, int):
        raise TypeError(
            f'pixel_decoder ({type(pixel_decoder).__name__}) has memory_channels={channels!r}, expected the number of '
            'channels of the memory that it returns. Fix: set self.memory_channels in its constructor'
        )
    return channels


def build_criterion(matcher: dict, criterion: dict, **derived) -> nn.Module:
    """Build the criterion of a head with its matcher, which uses mask loss and weights of the criterion.

    Args:
        matcher: config of the matcher.
        criterion: config of the criterion; ``mask_loss`` in it is the config of a part.
        derived: see `build_part`.

    Raises:
        TypeError: see `build_part`.
        KeyError: see `build_part`.
    """
    settings = dict(criterion) if isinstance(criterion, dict) else criterion
    mask_loss = None
    if isinstance(settings, dict) and settings.get('mask_loss') is not None:
        mask_loss = build_part('criterion.mask_loss', settings.pop('mask_loss'), **derived)
        if not isinstance(mask_loss, MaskLoss):
            cls = type(mask_loss)
            raise TypeError(
                f'criterion.mask_loss: found {cls.__module__}.{cls.__name__}, expected a class that derives from '
                "MaskLoss of mmmaskformer.core.training.parts, such as 'mmmaskformer.FocalDiceLoss'"
            )
    weights = settings.get('loss_weights') if isinstance(settings, dict) else None
    built = build_part('matcher', matcher, **derived, mask_loss=mask_loss, loss_weights=weights)
    return build_part('criterion', settings, **derived, mask_loss=mask_loss, matcher=built)
