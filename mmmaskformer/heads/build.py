"""Build the parts of a head from config dicts, refusing keys that nobody reads."""

import difflib
import inspect
from collections.abc import Iterable

from mmmaskformer.registry import MODELS


def build_part(name: str, cfg: dict, **derived):
    """Build a part of a head.

    Args:
        name: key of the part in the head's config, for messages.
        cfg: its config, with ``type``. It is not changed.
        derived: arguments that follow from the head's own (class count, widths); the config may not repeat them.

    Returns:
        The built module.

    Raises:
        TypeError: if ``cfg`` is not a dict with a ``type``, or holds a key that the part does not take.
        KeyError: if ``type`` is not registered.
    """
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(f"{name} must be a dict with a 'type' such as 'mmmaskformer.…', got {cfg!r}")
    cls = MODELS.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if cls is None:
        raise KeyError(
            f"{name}: type='{cfg['type']}' is not registered in mmmaskformer; expected a part such as "
            "'mmmaskformer.FPNPixelDecoder', or your own class registered in mmmaskformer.registry.MODELS"
        )
    given = {key: value for key, value in cfg.items() if key != 'type'}
    taken = inspect.signature(cls).parameters
    refuse_unknown_keys(f'{name} ({cls.__name__})', given, set(taken) - set(derived), derived)
    return cls(**given, **{key: value for key, value in derived.items() if key in taken})


def refuse_unknown_keys(where: str, given: Iterable[str], accepted: Iterable[str], derived: Iterable[str] = ()) -> None:
    """Check config keys against what is taken.

    Args:
        where: names the config dict in the message.
        given: keys found.
        accepted: keys taken.
        derived: keys that are set from the head and must not be written again.

    Raises:
        TypeError: naming the first offending key, the closest accepted one and all accepted ones.
    """
    accepted = sorted(accepted)
    for key in given:
        if key in derived:
            raise TypeError(f"{where}: '{key}' follows from the head's own settings; remove it here and set it there")
        if key not in accepted:
            close = difflib.get_close_matches(key, accepted, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ''
            raise TypeError(f"{where} does not take the key '{key}'.{hint} Accepted keys: {', '.join(accepted)}")
