"""Named switches of the fast paths; if one is switched off, the plain computation is used instead."""

import os
from collections.abc import Iterable

FAST_PATHS = {
    'chunked_costs': 'matching costs a few pixels at a time, instead of mask by mask',
    'one_pass_loss': 'losses of masks and of pixels, and their gradients, in one pass over the full resolution',
    'fused_inference': 'what `fuse_for_inference` switches on',
    'folded_gradient': 'the backward pass of the mask logits of a few queries through the folded last convolution',
    'recomputed_convs': 'the backward pass recomputes the 1x1 convolutions of the pixel decoder; they are not stored',
    'triton_kernels': 'on a GPU, the mask loss in two kernels instead of tensor operations',
}
"""Name and meaning of every fast path."""

ENVIRONMENT_VARIABLE = 'MMMASKFORMER_PLAIN'
"""Lists the fast paths that are switched off when Python starts: names separated by commas, or 'all'."""


def set_fast_paths(enabled: bool | None = None, **named: bool) -> dict[str, bool]:
    """Switch fast paths on or off in this process.

    Results are equal up to rounding. Use the switches to verify this, to debug, and on devices that do not support a
    fast path.

    Args:
        enabled: value for every fast path that is not named; None does not change them.
        named: values of single fast paths, see `FAST_PATHS`.

    Returns:
        The switches as they were before, so that ``set_fast_paths(**before)`` restores them.

    Raises:
        ValueError: if a name is unknown, or a value is neither True nor False.
    """
    before = dict(_switches)
    _refuse_unknown(named, 'set_fast_paths')
    for name, value in ([] if enabled is None else [('enabled', enabled)]) + list(named.items()):
        if not isinstance(value, bool):
            raise ValueError(f'set_fast_paths: found {name}={value!r}, expected True or False')
    if enabled is not None:
        _switches.update(dict.fromkeys(FAST_PATHS, enabled))
    _switches.update(named)
    return before


def is_fast(name: str) -> bool:
    """Whether a fast path of `FAST_PATHS` is switched on."""
    return _switches[name]


def _refuse_unknown(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in FAST_PATHS:
            raise ValueError(f'{where}: there is no fast path {name!r}; expected one or more of {list(FAST_PATHS)}')


def _initial(value: str) -> dict[str, bool]:
    """Switches from the value of the environment variable."""
    plain = list(FAST_PATHS) if value == 'all' else [name.strip() for name in value.split(',') if name.strip()]
    _refuse_unknown(plain, f"the environment variable {ENVIRONMENT_VARIABLE} (names with commas between, or 'all')")
    return {name: name not in plain for name in FAST_PATHS}


_switches = _initial(os.environ.get(ENVIRONMENT_VARIABLE, ''))
