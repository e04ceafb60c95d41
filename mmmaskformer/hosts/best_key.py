"""A hook that checks at the start what the best checkpoint is to be chosen by; a registry location for `HOOKS`."""

from collections.abc import Iterator, Sequence

from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import Runner

from mmmaskformer.core.checks import checked
from mmmaskformer.hosts.metrics import all_metrics
from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
@checked()
class CheckBestKeyHook(Hook):
    """Compares ``save_best`` and the monitor of early stopping with what the validation metrics give.

    mmengine looks the key up after the first validation and raises a bare KeyError there, hours into a training run
    whose ``val_evaluator`` was replaced. Here a key whose prefix no metric has stops the run before the first step, and
    one that is absent at the first validation stops it with the keys that there are.
    """

    priority = 'HIGH'  # before CheckpointHook and EarlyStoppingHook

    def before_train(self, runner: Runner) -> None:
        """Compare prefixes.

        Raises:
            ValueError: if no metric can give a key.
        """
        if runner.val_loop is None:
            return
        metrics = list(all_metrics(runner.val_evaluator.metrics))
        for where, key in wanted_keys(runner.hooks):
            if not any(may_give(metric, key) for metric in metrics):
                names = ', '.join(f'{type(metric).__name__} (prefix {metric.prefix!r})' for metric in metrics)
                raise ValueError(
                    f"{where}='{key}' is a result of no metric in val_evaluator; found {names}. Fix: {where}='auto' "
                    "with rule='greater' takes the first result of the first metric; or name a result of these metrics"
                )

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Look the keys up.

        Raises:
            KeyError: if one is absent.
        """
        for where, key in wanted_keys(runner.hooks) if metrics else ():
            if key not in metrics:
                raise KeyError(
                    f"{where}='{key}' is not a result of the validation; found {sorted(metrics)}. Fix: set it to one "
                    'of these'
                )


def may_give(metric: BaseMetric, key: str) -> bool:
    """Whether a result can be this metric's, by its prefix.

    Metrics put their prefix before every result. One of a user's own that has none may write any name; those of the
    hosts and ours write none with a slash.
    """
    prefix = key.rpartition('/')[0]
    if metric.prefix is None and type(metric).__module__.split('.')[0] not in ('mmseg', 'mmdet', 'mmmaskformer'):
        return True
    return prefix == (metric.prefix or '')


def wanted_keys(hooks: Sequence[Hook]) -> Iterator[tuple[str, str]]:
    """Yield (key in the config, result looked for) of the hooks that look for one; 'auto' takes what there is."""
    for hook in hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            yield from (('default_hooks.checkpoint.save_best', key) for key in hook.save_best if key != 'auto')
        elif isinstance(hook, EarlyStoppingHook):
            yield 'EarlyStoppingHook.monitor', hook.monitor
