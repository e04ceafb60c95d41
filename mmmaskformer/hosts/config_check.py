"""Checks of a config for unused keys, an empty training run and an unexpected batch size; a registry location."""

import difflib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim.scheduler import PolyLR
from mmengine.runner import BaseLoop, Runner

from mmmaskformer.core.checks import checked
from mmmaskformer.hosts.unused_variables import unused_variables
from mmmaskformer.registry import HOOKS
from mmmaskformer.run_settings import keys_of_runs, unread_options

OF_DICTS = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
}
"""Dicts of which mmengine reads only these keys and ignores others; most other dicts are passed to a constructor."""
CLOSE = 0.88
"""Similarity above which a top-level name counts as a misspelt key instead of a variable of the config.

Of all names in the configs of both hosts, only a leftover 'models' reaches it.
"""


@HOOKS.register_module()
@checked()
class CheckConfigHook(Hook):
    """Warns of misspelt keys, of options and variables that change nothing, of a batch size that does not match the
    learning rate and of a schedule that ends too early; refuses a run without iterations.

    A config may define variables of any name, so only names that are similar to a key are reported.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Check the keys."""
        unused = unused_variables(runner.cfg.filename, runner.cfg) if runner.cfg.filename else []
        for text in [*unread_keys(runner.cfg), *unread_options(runner.cfg, options_of(sys.argv)), *unused]:
            print_log(text, logger='current', level=logging.WARNING)

    def before_train(self, runner: Runner) -> None:
        """Check the length of the training, its batch size and its schedule.

        Raises:
            ValueError: if there is no iteration, or the validation interval is 0.
        """
        loop = runner.train_loop
        for key in ('max_iters', 'max_epochs', 'val_interval'):
            # only the keys of the configured loop: an epoch-based loop derives max_iters
            found = getattr(loop, key, None) if key in (runner.cfg.get('train_cfg') or {}) else None
            if isinstance(found, int) and found < 1:
                raise ValueError(f'train_cfg.{key}: found {found}, expected a whole number of at least 1')
        loader = getattr(loop, 'dataloader', None)
        batch = other_batch(runner.cfg, get_world_size(), getattr(loader, 'batch_size', None))
        for text in (batch, idle_end(getattr(runner, 'param_schedulers', None), loop)):
            if text is not None:
                print_log(text, logger='current', level=logging.WARNING)


def other_batch(cfg: Mapping, num_processes: int, batch_size: int | None) -> str | None:
    """A message if the batch size does not match the learning rate and the rate is not scaled; else None.

    Args:
        cfg: the whole config. Its ``auto_scale_lr.base_batch_size`` is the batch size of the learning rate, without
            gradient accumulation, as in mmengine.
        num_processes: number of processes, one per GPU.
        batch_size: images per process; None if unknown.
    """
    scaling = cfg.get('auto_scale_lr') or {}
    expected = scaling.get('base_batch_size')
    if expected is None or batch_size is None or scaling.get('enable'):
        return None
    batch = num_processes * batch_size
    if expected == batch:
        return None
    return (
        f'config: the learning rate is for a batch of {expected} (auto_scale_lr.base_batch_size), found '
        f'{num_processes} processes x {batch_size} images. Fix: change the number of GPUs or '
        f'train_dataloader.batch_size; or scale the rate by {batch / expected:g} with auto_scale_lr.enable=True; or, '
        f'if the rate is meant for this batch or gradients are accumulated, set '
        f'auto_scale_lr.base_batch_size={batch}.'
    )


def options_of(arguments: Sequence[str]) -> list[str]:
    """Keys of the entries that follow ``--cfg-options`` on the command line of one of the hosts' scripts."""
    keys: list[str] = []
    inside = False
    for argument in arguments:
        if argument.startswith('--'):
            name, _, argument = argument.partition('=')
            inside = name == '--cfg-options'
        if inside and '=' in argument:
            keys.append(argument.partition('=')[0])
    return keys


def idle_end(schedulers: Sequence | Mapping | None, loop: BaseLoop) -> str | None:
    """A message if the learning rate has fallen to 0 before the end of the training; else None.

    Args:
        schedulers: built schedulers of the run. Those of a resumed run have the state of the checkpoint.
        loop: the training loop.
    """
    for index, scheduler in enumerate(schedulers if isinstance(schedulers, list | tuple) else ()):
        unit = 'epochs' if scheduler.by_epoch else 'iters'
        length = getattr(loop, f'max_{unit}', 0)
        if isinstance(scheduler, PolyLR) and scheduler.eta_min == 0 and scheduler.end < length:
            return (
                f'param_scheduler.{index}: the learning rate of PolyLR is 0 from '
                f'{"epoch" if scheduler.by_epoch else "iteration"} {scheduler.end} on, but train_cfg.max_{unit} is '
                f'{length}: the remaining {unit} train nothing. Fix: param_scheduler.{index}.end={length + 1}, before '
                'the run is started, since a resumed run keeps its schedule'
            )
    return None


def unread_keys(cfg: Mapping) -> Iterator[str]:
    """Messages about keys that are similar to those that mmengine and the hosts' scripts read.

    Args:
        cfg: the whole config.
    """
    known = keys_of_runs()
    for key in cfg:
        # test_pipeline, a variable of almost every config, is as similar to tta_pipeline
        likely = known - {'tta_pipeline'}
        close = difflib.get_close_matches(key, likely, n=1, cutoff=CLOSE) if key not in known else []
        if close:
            yield f"config: nothing reads the key '{key}'. Fix: if '{close[0]}' is meant, correct the spelling."
    for name, keys in OF_DICTS.items():
        for key in set(cfg.get(name) or ()) - keys:
            yield f"config: nothing reads the key '{name}.{key}'; expected one of {sorted(keys)}."
