"""Valid values of the run settings that mmengine does not check, and the location of the parts of a run in its config.

mmengine converts some values, fails at others without the name of the key, and reads text as True. With this module
installed, `Runner.from_cfg` checks the settings before anything is built, if the config uses this package. Messages
of our own classes then name settings by their config key, such as ``default_hooks.checkpoint.interval``.

A work dir that cannot be written is refused before anything is built; errors of a disk that fills up later name it.
"""

import contextlib
import difflib
import errno
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import FlexibleRunner, Runner

from mmmaskformer.core import checks
from mmmaskformer.core.checks import (
    BOOLEAN,
    MAPPING,
    PATH,
    TEXT,
    Check,
    check_settings,
    list_of,
    number,
    one_of,
    whole,
)
from mmmaskformer.formats.whole_files import CANNOT_WRITE, require_writable

PART = Check('a dict', lambda value: value is None or not isinstance(value, str | int | float | list | tuple))
"""A dict or a built object."""
LEVELS = one_of('CRITICAL', 'FATAL', 'ERROR', 'WARNING', 'WARN', 'INFO', 'DEBUG', 'NOTSET')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
PARTS = ('model', *LOADERS, *EVALUATORS, 'default_hooks', 'custom_hooks', 'optim_wrapper', 'visualizer',
         'log_processor', 'tta_model')  # fmt: skip
"""Keys of the parts of a run; other keys of a config are user variables."""

SETTINGS: dict[str, dict[str, Check]] = {
    '': {
        **dict.fromkeys(('model', *LOADERS, 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper', 'visualizer'), PART),
        **dict.fromkeys(('default_hooks', 'randomness', 'env_cfg', 'log_processor', 'auto_scale_lr'), PART),
        'work_dir': PATH.or_none(),
        'load_from': PATH.or_none(),
        'resume': BOOLEAN,
        'log_level': LEVELS | whole(0),
        'default_scope': TEXT.or_none(),
        'custom_hooks': Check('a list of dicts', lambda value: value is None or isinstance(value, list | tuple)),
    },
    'train_cfg': {
        **dict.fromkeys(('max_iters', 'max_epochs', 'val_interval'), whole(1)),
        'val_begin': whole(0),
        'by_epoch': BOOLEAN,
    },
    'randomness': {'seed': whole(0, 2**32 - 1).or_none(), 'deterministic': BOOLEAN, 'diff_rank_seed': BOOLEAN},
    'env_cfg': {'cudnn_benchmark': BOOLEAN, 'mp_cfg': MAPPING, 'dist_cfg': MAPPING},
    'auto_scale_lr': {'enable': BOOLEAN, 'base_batch_size': whole(1)},
    **dict.fromkeys(
        LOADERS,
        {
            'batch_size': whole(1),
            'num_workers': whole(0),
            'dataset': PART,
            'prefetch_factor': whole(1).or_none(),
            'num_batch_per_epoch': whole(1).or_none(),
            **dict.fromkeys(('persistent_workers', 'pin_memory', 'drop_last'), BOOLEAN),
        },
    ),
    'default_hooks.logger': {'interval': whole(1)},
    **dict.fromkeys(('val_cfg', 'test_cfg'), {'fp16': BOOLEAN}),
    'log_processor': {
        **dict.fromkeys(('by_epoch', 'log_with_hierarchy'), BOOLEAN),
        'window_size': whole(1),
        'num_digits': whole(0),
    },
    'param_scheduler': {
        **dict.fromkeys(('by_epoch', 'convert_to_iter_based', 'verbose'), BOOLEAN),
        **dict.fromkeys(('begin', 'T_max', 'step_size'), whole(0)),
        'end': whole(0) | one_of(math.inf),
        **dict.fromkeys(('power', 'gamma', 'factor', 'start_factor', 'end_factor', 'eta_min', 'eta_min_ratio'),
                        number(0).or_none()),
        'milestones': list_of(whole(0)),
    },
}  # fmt: skip
"""By the key of a dict, or of a list of dicts, in the config; '' for the config itself."""

OF_SCRIPTS = {'custom_imports', 'tta_model', 'tta_pipeline', 'runner_type', 'compile', 'strategy', 'sync_bn',
              'find_unused_parameters', 'model_wrapper_cfg', 'activation_checkpointing',
              'efficient_conv_bn_eval'}  # fmt: skip
"""Keys that the hosts' scripts and mmengine read from the config besides the arguments of the Runner."""
SHOWN_PLACES = 3
"""Places of a key that a message names."""

_config: list[Mapping] = []
"""The config of the last run of this process that uses this package."""


def install() -> None:
    """Make mmengine's runners check their config. Calling it again has no effect."""
    for runner in (Runner, FlexibleRunner):
        build = runner.__dict__['from_cfg'].__func__
        if not hasattr(build, 'checks_settings'):
            runner.from_cfg = classmethod(_checking(build))
        for name in ('train', 'val', 'test'):
            work = getattr(runner, name)
            if not hasattr(work, 'explains_disk'):
                setattr(runner, name, _explaining(work))
    if locate not in checks.locators:
        checks.locators.append(locate)


def _checking(build: Callable) -> Callable:
    @functools.wraps(build)
    def from_cfg(cls, cfg):
        _config.clear()
        if not uses_this_package(cfg):
            return build(cls, cfg)
        check_run(cfg)
        _config.append(cfg)
        if cfg.get('work_dir') and '://' not in str(cfg.work_dir):
            require_writable(cfg.work_dir, 'work_dir', folder=True)
        with explaining_disk(cfg.get('work_dir')):
            return build(cls, cfg)

    from_cfg.checks_settings = True  # type: ignore[attr-defined]
    return from_cfg


def uses_this_package(cfg: Mapping) -> bool:
    """Whether a config imports this package, as every shipped config does, or names one of its classes.

    A config that inherits from ours and imports a file of its own replaces our list of imports.
    """
    if 'mmmaskformer' in str((cfg.get('custom_imports') or {}).get('imports', '')):
        return True
    parts = {name: cfg[name] for name in PARTS if cfg.get(name) is not None}
    return any(str(part.get('type', '')).startswith('mmmaskformer.') for _, part in _dicts(parts))


def _explaining(work: Callable) -> Callable:
    @functools.wraps(work)
    def explained(self, *args, **kwargs):
        with explaining_disk(self.work_dir):
            return work(self, *args, **kwargs)

    explained.explains_disk = True  # type: ignore[attr-defined]
    return explained


@contextlib.contextmanager
def explaining_disk(work_dir: str | None) -> Iterator[None]:
    """Name the work dir in errors of a full or write-protected disk that have no explanation yet.

    mmengine creates folders, and writes a part of its log, without naming the file or the fix.

    Args:
        work_dir: of the run.

    Raises:
        OSError: in the place of such an error.
    """
    try:
        yield
    except OSError as error:
        # a full disk raises no name where mmengine writes to an open log
        in_work_dir = work_dir is not None and bool(error.filename) and _is_below(error.filename, work_dir)
        cannot_write = error.errno in (*CANNOT_WRITE, errno.EACCES, errno.EPERM)
        if not cannot_write or not (in_work_dir or (error.errno in CANNOT_WRITE and not error.filename)):
            raise
        file = f' ({error.filename})' if error.filename else ''
        raise type(error)(
            f'work_dir={str(work_dir)!r}: a file of the run could not be written: {error.strerror}{file}. '
            'Fix: make room, make the folder writable or choose another one with --work-dir; then continue with '
            '--resume.'
        ) from error


def _is_below(path: str | bytes, folder: str) -> bool:
    return Path(os.fsdecode(path)).absolute().is_relative_to(Path(folder).absolute())


def check_run(cfg: Mapping) -> None:
    """Check the settings that mmengine does not check.

    Args:
        cfg: the complete config.

    Raises:
        ValueError: if a value is invalid; the message names the first such key of the config.
    """
    for path, settings in SETTINGS.items():
        part: Any = getattr(cfg, '_cfg_dict', cfg)  # mmengine's Config is no Mapping
        for key in filter(None, path.split('.')):
            part = part.get(key) if isinstance(part, Mapping) else None
        parts = {f'{path}.{index}': row for index, row in enumerate(part)} if isinstance(part, list) else {path: part}
        for where, row in parts.items():
            if isinstance(row, Mapping):
                check_settings(where, row, settings)


def keys_of_runs() -> set[str]:
    """The top-level keys of a config that mmengine and the hosts' scripts read; others are variables of the config."""
    return set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | OF_SCRIPTS


def unread_options(cfg: Mapping, options: Iterable[str]) -> list[str]:
    """Messages about entries of ``--cfg-options`` that change nothing, since nothing reads their top-level key.

    A variable such as ``max_iters`` or ``data_root`` is used when the config file is read, before options replace it.

    Args:
        cfg: the complete config.
        options: keys of the entries, such as 'train_cfg.max_iters'.
    """
    known, messages = keys_of_runs() - {'custom_imports'}, []  # imported when the file is read
    for key in options:
        name = key.partition('.')[0]
        if name in known:
            continue
        places = places_of(cfg, key.rpartition('.')[2])
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        fix = ' or '.join(places) or (f'{close[0]}{key.removeprefix(name)}' if close else '')
        messages.append(
            f'--cfg-options: neither mmengine nor the hosts read {key!r}; the variables of a config are used when its '
            f'file is read, not later. Fix: {f"set {fix}" if fix else "remove it, or set it in a config file"}'
        )
    return messages


def places_of(cfg: Mapping, name: str) -> list[str]:
    """The first entries of a config with a key of this name that mmengine or the hosts read, by dotted key.

    Args:
        cfg: the complete config.
        name: key, such as 'num_classes'.
    """
    known = sorted(keys_of_runs() - {'custom_imports'})
    parts = {key: cfg[key] for key in known if cfg.get(key) is not None}
    return list(dict.fromkeys(f'{path}.{name}' for path, part in _dicts(parts) if name in part))[:SHOWN_PLACES]


def locate(cls: type, key: str, value: Any) -> str | None:
    """The location of a part in the config of the run.

    Args:
        cls: class of the part.
        key: one of its settings.
        value: value of the setting in the config.

    Returns:
        Key of the dict, such as 'train_dataloader.dataset'; None if there is no such dict.
    """
    for cfg in _config:
        for path, part in _dicts({name: cfg[name] for name in PARTS if cfg.get(name) is not None}):
            type_name = part.get('type')
            named = type_name if isinstance(type_name, type) else str(type_name).rpartition('.')[2]
            if named in (cls, cls.__name__) and key in part and repr(part[key]) == repr(value):
                return path
    return None


def _dicts(node: Any, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """Every dict below a part of a config, with its key."""
    if isinstance(node, Mapping):
        if path:
            yield path, node
        for key, value in node.items():
            yield from _dicts(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _dicts(value, f'{path}.{number}')
