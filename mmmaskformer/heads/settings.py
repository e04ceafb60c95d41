"""Declarations of the settings of models: those of the parts of a head, and those of ``test_cfg``."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from mmmaskformer.core.checks import (
    FRACTION,
    MAPPING,
    SIZE,
    Check,
    check_settings,
    list_of,
    one_of,
    refuse_unknown_keys,
)
from mmmaskformer.registry import part_named

PART_TYPE = Check(
    'the name of a part or its class', lambda value: callable(value) or (isinstance(value, str) and value)
)
PARTS_OF_PARTS: dict[str, Check] = {
    'mask_loss': MAPPING.or_none(),
    'box_loss': MAPPING.or_none(),
    'costs': list_of(MAPPING).or_none(),
    'assignment': MAPPING,
}
"""An argument of our parts that is a module in Python is, in a config, the dict that describes it."""

INFERENCE = ('semantic', 'general')
"""Values of ``test_cfg.inference`` of a semantic model."""

SEGMENTOR_TEST_CFG: dict[str, Check] = {
    'mode': one_of('whole', 'slide'),
    'crop_size': SIZE,
    'stride': SIZE,
    'inference': one_of(*INFERENCE),
    'object_threshold': FRACTION,
}
"""Settings of a semantic model's ``test_cfg``; the first three are the host's."""

UNREAD = (
    ('mode', 'whole', ('slide', ('crop_size', 'stride'))),
    ('inference', 'semantic', ('general', ('object_threshold',))),
)
"""Key of a choice, its default, and the only value with which the other keys are read."""
_reported: set[str] = set()


def check_parts(where: str, parts: Mapping[str, Any], *, channels: int) -> None:
    """Check the values in configs of parts and of the parts within them.

    A user-defined part is checked if its class is decorated with `mmmaskformer.core.checks.checked`.

    Args:
        where: config key of the head.
        parts: their configs by key; values that are not parts are left to `mmmaskformer.heads.build.build_part`.
        channels: width of the head.

    Raises:
        ValueError: if a value is invalid; names its key as written in the config.
    """
    for key, part in parts.items():
        if isinstance(part, list | tuple):
            check_parts(where, {f'{key}[{i}]': item for i, item in enumerate(part)}, channels=channels)
        elif isinstance(part, Mapping) and 'type' in part:
            _check_part(f'{where}.{key}', part, channels)


def _check_part(where: str, part: Mapping[str, Any], channels: int) -> None:
    check_settings(where, part, {'type': PART_TYPE})
    cls = part_named(part['type']) if isinstance(part['type'], str) else part['type']
    if not isinstance(cls, type):
        return
    is_own = cls.__module__.startswith('mmmaskformer.')
    check_settings(where, part, getattr(cls, 'setting_checks', {}) | (PARTS_OF_PARTS if is_own else {}))
    taken = inspect.signature(cls).parameters
    if is_own and set(part) - {'type'} <= set(taken):
        for key in ('norm_groups', 'num_heads'):
            if key in taken and channels % part.get(key, taken[key].default):
                raise ValueError(
                    f'{where}.{key}: found {part.get(key, taken[key].default)}, expected a divisor of the '
                    f"head's channels={channels}"
                )
    check_parts(where, {key: value for key, value in part.items() if key != 'type'}, channels=channels)


def check_segmentor_test_cfg(
    test_cfg: Mapping[str, Any] | None, *, own_head: bool = True, inference: Sequence[str] = INFERENCE
) -> None:
    """Check keys and values of a semantic model's ``test_cfg``.

    Args:
        test_cfg: ``test_cfg`` of the segmentor.
        own_head: whether the head is ours. Other heads may read other keys.
        inference: kinds of inference that the head supports.

    Raises:
        TypeError: if there is an unknown key.
        ValueError: naming the key with a wrong value.
    """
    test_cfg = test_cfg or {}
    if own_head:
        refuse_unknown_keys('model.test_cfg', test_cfg, SEGMENTOR_TEST_CFG)
    check_settings('model.test_cfg', test_cfg, SEGMENTOR_TEST_CFG | {'inference': one_of(*inference)})
    if own_head:
        _report_unread(test_cfg)


def _report_unread(test_cfg: Mapping[str, Any]) -> None:
    """Warn, once per process, of a setting that the chosen inference does not read."""
    for choice, default, (wanted, keys) in UNREAD:
        found = [key for key in keys if key in test_cfg]
        if found and test_cfg.get(choice, default) != wanted and choice not in _reported:
            _reported.add(choice)
            print_log(
                f"model.test_cfg: {' and '.join(found)} is read with {choice}='{wanted}' only, but {choice} is "
                f"'{test_cfg.get(choice, default)}'. Fix: set model.test_cfg.{choice}={wanted}, or remove it.",
                logger='current',
                level=logging.WARNING,
            )
