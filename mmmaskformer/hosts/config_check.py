"""Keys of a config that nobody reads, and training runs that are not what a config is for; a location for `HOOKS`."""

import difflib
import inspect
import logging
from collections.abc import Iterator, Mapping

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmmaskformer.core.checks import checked
from mmmaskformer.registry import HOOKS

OF_SCRIPTS = {'custom_imports', 'tta_model', 'tta_pipeline', 'runner_type', 'compile', 'strategy'}
"""What the hosts' scripts and mmengine read beside the arguments of the Runner."""
OF_DICTS = {
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
}
"""Dicts of which mmengine reads these keys and passes over others; most others it hands to a constructor."""
CLOSE = 0.88
"""Likeness from which a top-level name is taken for a misspelt key, not for a variable of the config.

Of all names in the configs of both hosts, only a leftover 'models' is that near.
"""


@HOOKS.register_module()
@checked()
class CheckConfigHook(Hook):
    """Warns of misspelt keys, which mmengine passes over, and of another batch than the learning rate is for; refuses a
    training run of no iteration.

    A config may hold variables of any name; only names that are nearly those of a key are reported.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Look at the keys."""
        for text in unread_keys(runner.cfg):
            print_log(text, logger='current', level=logging.WARNING)

    def before_train(self, runner: Runner) -> None:
        """Look at the length of the training, and at its batch.

        Raises:
            ValueError: if nothing would be trained, or a validation would come after every 0 iterations.
        """
        loop = runner.train_loop
        for key in ('max_iters', 'max_epochs', 'val_interval'):
            # those of the loop that the config names; an epoch-based one derives the other maximum
            found = getattr(loop, key, None) if key in (runner.cfg.get('train_cfg') or {}) else None
            if isinstance(found, int) and found < 1:
                raise ValueError(f'train_cfg.{key}: found {found}, expected a whole number of at least 1')
        loader = getattr(loop, 'dataloader', None)
        text = other_batch(runner.cfg, get_world_size(), getattr(loader, 'batch_size', None))
        if text is not None:
            print_log(text, logger='current', level=logging.WARNING)


def other_batch(cfg: Mapping, num_processes: int, batch_size: int | None) -> str | None:
    """A message if a training run has another batch than its learning rate is for, and nothing scales the rate.

    Args:
        cfg: the whole config. Its ``auto_scale_lr.base_batch_size`` is the batch of the learning rate, accumulated
            gradients left out, as in mmengine.
        num_processes: one for each GPU.
        batch_size: images of each process; None if that is not known.
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


def unread_keys(cfg: Mapping) -> Iterator[str]:
    """Messages on keys that are nearly those that mmengine and the hosts' scripts read.

    Args:
        cfg: the whole config.
    """
    known = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | OF_SCRIPTS
    for key in cfg:
        # test_pipeline, a variable of nearly every config, is as near to tta_pipeline
        likely = known - {'tta_pipeline'}
        close = difflib.get_close_matches(key, likely, n=1, cutoff=CLOSE) if key not in known else []
        if close:
            yield f"config: nothing reads the key '{key}'. Fix: if it was to be '{close[0]}', correct its spelling."
    for name, keys in OF_DICTS.items():
        for key in set(cfg.get(name) or ()) - keys:
            yield f"config: nothing reads the key '{name}.{key}'; expected one of {sorted(keys)}."
