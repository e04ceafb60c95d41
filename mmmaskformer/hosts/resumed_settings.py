"""What a checkpoint must hold to resume a run from it, and settings that have changed since it was saved."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mmmaskformer.checkpoints.config_text import UNKNOWN, lookup, read_config_text
from mmmaskformer.formats.messages import some
from mmmaskformer.hosts.hooks import is_sharded

COMPARED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
"""Keys of a config that change the training."""
KEPT = ('optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg.', 'param_scheduler.', 'auto_scale_lr.')
"""Beginnings of keys whose values a resumed run takes from its checkpoint: mmengine restores the whole state."""
PARTS_OF_HUB = {'log_scalars', 'runtime_info', 'resumed_keys'}
"""Keys of the state of mmengine's message hub."""
SHOWN = 12
"""Settings in a message."""


def require_training_state(runner: Runner, checkpoint: Mapping) -> None:
    """Check that a run can be resumed from a checkpoint, and report settings that have changed.

    Args:
        runner: runner that is about to take over the state.
        checkpoint: content of the file.

    Raises:
        ValueError: if the checkpoint lacks state that mmengine would silently re-initialise, has inf or NaN in it, or
            belongs to another optimiser, schedule or set of hooks; if the model is sharded.
    """
    _require_all_parts(runner, checkpoint)
    if is_sharded(runner.model):
        raise ValueError(
            f'checkpoint {runner._load_from}: a run with FSDPStrategy cannot be resumed, because mmengine 0.10 does '
            'not restore the sharded state of the optimizer. Fix: start a new run from these weights: '
            f'load_from={runner._load_from} without --resume; or train with DDPStrategy.'
        )
    _require_finite(runner, checkpoint['optimizer'])
    _require_ema(runner, checkpoint)
    before = read_config_text(checkpoint['meta'].get('cfg') or '')
    now = read_config_text(runner.cfg.pretty_text)  # the same way as the other one
    _require_same_optimizer(runner, checkpoint, before, now)
    _require_same_schedule(runner, checkpoint, before, now)
    for text in describe_changes(before, now):
        print_log(text, logger='current', level=logging.WARNING)


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message on settings that a resumed run ignores, and one on those that it follows.

    Args:
        before: literal values of the config in the checkpoint.
        now: literal values of the config of this run.
    """
    if not before:
        return
    found = [change for key in COMPARED for change in changes(before.get(key), now.get(key), key)]
    ignored = [f'{key} {text}' for key, text in found if key.startswith(KEPT)]
    followed = [f'{key} {text}' for key, text in found if not key.startswith(KEPT)]
    if ignored:
        yield (
            'Settings that have changed since the checkpoint was saved and have no effect, because its optimizer state '
            f'and learning-rate schedule are continued: {some(ignored, SHOWN, "; ")}. Fix: to train with the new '
            'values, start a new run from its weights, with load_from and without --resume.'
        )
    if followed:
        yield (
            f'Settings that have changed since the checkpoint was saved: {some(followed, SHOWN, "; ")}. The run '
            'follows them from here on, so it may differ from an uninterrupted one.'
        )


def changes(before: Any, now: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the keys below which two values differ, each with both values as text.

    Args:
        before: literal value, or `UNKNOWN` for anything that is not a literal.
        now: likewise.
        key: key of the values.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in [*before, *(name for name in now if name not in before)]:
            if name not in before or name not in now:
                yield f'{key}.{name}', 'is new' if name in now else 'is missing now'
            else:
                yield from changes(before[name], now[name], f'{key}.{name}')
    elif _is_list(before) and _is_list(now) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from changes(old, new, f'{key}.{index}')
    elif before != now:
        values = [f'a list of {len(value)}' if _is_list(value) else repr(value) for value in (before, now)]
        yield (key, f'{values[0]} -> {values[1]}') if max(map(len, values)) < 80 else (key, '(long values)')


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _require_all_parts(runner: Runner, checkpoint: Mapping) -> None:
    meta, hub = checkpoint.get('meta'), checkpoint.get('message_hub')
    progress = [meta.get(key) for key in ('iter', 'epoch')] if isinstance(meta, Mapping) else [None]
    counts = all(isinstance(value, int) and value >= 0 for value in progress)
    missing = [] if counts and isinstance(hub, Mapping) and hub.keys() >= PARTS_OF_HUB else ['iteration']
    missing += ['optimizer state'] * (not isinstance(checkpoint.get('optimizer'), Mapping))
    stored = checkpoint.get('param_schedulers')
    has_steps = isinstance(stored, Mapping) or (
        isinstance(stored, list) and all(isinstance(state, Mapping) and 'last_step' in state for state in stored)
    )
    missing += ['learning-rate schedule'] * (bool(runner.param_schedulers) and not has_steps)
    if missing:
        raise ValueError(
            f'checkpoint {runner._load_from} holds no {", no ".join(missing)}, so a run cannot be resumed from it. '
            'Fix: resume from an iter_*.pth (best_*.pth hold only weights), or start a new run from these weights: '
            f'load_from={runner._load_from} without --resume.'
        )


def _require_finite(runner: Runner, state: Any) -> None:
    tensors = list(_tensors_of(state))
    wrong = sum(not tensor.isfinite().all() for tensor in tensors)
    if wrong:
        raise ValueError(
            f'checkpoint {runner._load_from}: {wrong} of the {len(tensors)} tensors of its optimizer state hold inf or '
            'NaN, which the first step would propagate to the weights. Fix: resume from an earlier checkpoint of that '
            f'run, or start a new run from these weights: load_from={runner._load_from} without --resume.'
        )


def _tensors_of(state: Any) -> Iterator[Tensor]:
    """The tensors of floats in the state of one optimiser, or of several."""
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors_of(value)


def _require_ema(runner: Runner, checkpoint: Mapping) -> None:
    """Refuse to train on with the averaged weights, which EMAHook saves in the place of those of the model."""
    if 'ema_state_dict' in checkpoint and not any('ema' in type(hook).__name__.lower() for hook in runner.hooks):
        raise ValueError(
            f'checkpoint {runner._load_from} is of a run with EMAHook: it holds the average of the weights as the '
            'model, and the config has no EMAHook to restore the weights of the run. Fix: add the hook to '
            'custom_hooks, or start a new run from the averaged weights: '
            f'load_from={runner._load_from} without --resume.'
        )


def _require_same_optimizer(runner: Runner, checkpoint: Mapping, before: Mapping, now: Mapping) -> None:
    """Refuse an optimiser of another type or with other groups of parameters."""
    fix = f'Fix: resume with the config of the interrupted run, or use load_from={runner._load_from} without --resume.'
    then, here = (lookup(cfg, 'optim_wrapper', 'optimizer', 'type') for cfg in (before, now))
    if UNKNOWN not in (then, here) and then != here:
        raise ValueError(
            f'optim_wrapper.optimizer.type: found {here!r}, but checkpoint {runner._load_from} holds the state of '
            f'{then!r}. {fix}'
        )
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    groups = checkpoint['optimizer'].get('param_groups')
    if optimizer is None or groups is None:
        return  # several optimisers, or one of DeepSpeed
    then, here = ([len(group['params']) for group in each] for each in (groups, optimizer.param_groups))
    if then != here:
        raise ValueError(
            f'the optimizer has {sum(here)} parameters in {len(here)} groups, but checkpoint {runner._load_from} holds '
            f'the state of {sum(then)} in {len(then)}: the model, its frozen layers or optim_wrapper.paramwise_cfg '
            f'have changed. {fix}'
        )
    _report_new_state(optimizer, checkpoint['optimizer'], runner._load_from)


def _report_new_state(optimizer: Optimizer, stored: Mapping, path: str) -> None:
    """Report, after the first step, parameters whose state is new; unused ones, without a gradient, never have one."""
    pairs = zip(stored['param_groups'], optimizer.param_groups, strict=True)
    lacking = [
        parameter
        for before, group in pairs
        if group.get('momentum', 1)  # SGD without momentum has no state
        for number, parameter in zip(before['params'], group['params'], strict=True)
        if not stored.get('state', {}).get(number)
    ]

    def report(stepped: Optimizer, *_: Any) -> None:
        handle.remove()
        new = sum(bool(stepped.state.get(parameter)) for parameter in lacking)
        if new:
            total = sum(len(group['params']) for group in stepped.param_groups)
            print_log(
                f'checkpoint {path} holds no optimizer state of {new} of {total} parameters: it is re-initialised '
                'for them, so the run may differ from an uninterrupted one.',
                logger='current',
                level=logging.WARNING,
            )

    if lacking:
        handle = optimizer.register_step_post_hook(report)


def _require_same_schedule(runner: Runner, checkpoint: Mapping, before: Mapping, now: Mapping) -> None:
    """Refuse other schedulers than those of the checkpoint, whose state mmengine would load into the wrong ones."""
    stored, built = checkpoint.get('param_schedulers') or [], runner.param_schedulers or []
    if isinstance(stored, Mapping) or isinstance(built, Mapping):
        return  # of several optimisers, compared by name
    then, here = ([lookup(part, 'type') for part in _parts(cfg.get('param_scheduler'))] for cfg in (before, now))
    if len(stored) != len(built) or (len(then) == len(here) == len(stored) and then != here):
        names = [f'{len(each)} schedulers ({", ".join(map(str, types))})' if types else f'{len(each)} schedulers'
                 for each, types in ((built, here), (stored, then))]  # fmt: skip
        raise ValueError(
            f'param_scheduler: found {names[0]}, but checkpoint {runner._load_from} holds the state of {names[1]}. '
            'Fix: resume with the schedulers of the interrupted run, or start a new run from these weights: '
            f'load_from={runner._load_from} without --resume.'
        )


def _parts(schedulers: Any) -> list:
    return list(schedulers) if _is_list(schedulers) else [schedulers] * (schedulers is not None)
