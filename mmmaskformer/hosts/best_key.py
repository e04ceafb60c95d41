"""A hook that checks at the start the metric that selects the best checkpoint; a registry location for `HOOKS`."""

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
    """Checks that the keys of ``save_best`` and of early stopping are results of the validation metrics.

    mmengine looks the key up after the first validation and raises a plain KeyError if it is absent, hours into the
    run. This hook stops the run before the first step if no metric has the prefix of the key, and after the first
    validation, with a list of the available keys, if the key is absent.
    """

    priority = 'HIGH'  # before CheckpointHook and EarlyStoppingHook

    def before_train(self, runner: Runner) -> None:
        """Compare prefixes.

        Raises:
            ValueError: if no metric can return a key.
        """
        if runner.val_loop is None:
            return
        metrics = list(all_metrics(runner.val_evaluator.metrics))
        for where, key in wanted_keys(runner.hooks):
            if not any(can_return(metric, key) for metric in metrics):
                names = ', '.join(f'{type(metric).__name__} (prefix {metric.prefix!r})' for metric in metrics)
                raise ValueError(
                    f"{where}='{key}' is not a result of any metric in val_evaluator; found {names}. Fix: {where}="
                    "'auto' with rule='greater' takes the first result of the first metric; or name a result of these "
                    'metrics'
                )

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Look up the keys.

        Raises:
            KeyError: if a key is absent.
        """
        for where, key in wanted_keys(runner.hooks) if metrics else ():
            if key not in metrics:
                raise KeyError(
                    f"{where}='{key}' is not a result of the validation; found {sorted(metrics)}. Fix: set it to one "
                    'of these'
                )


def can_return(metric: BaseMetric, key: str) -> bool:
    """Whether a metric can return a result of this name, judging by its prefix.

    Metrics prepend their prefix to every result. A user's metric without a prefix may use any name; metrics of the
    hosts and of this package never use a slash.
    """
    prefix = key.rpartition('/')[0]
    if metric.prefix is None and type(metric).__module__.split('.')[0] not in ('mmseg', 'mmdet', 'mmmaskformer'):
        return True
    return prefix == (metric.prefix or '')


def wanted_keys(hooks: Sequence[Hook]) -> Iterator[tuple[str, str]]:
    """Yield (key in the config, name of the result) of the hooks that need a result; 'auto' accepts any."""
    for hook in hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            yield from (('default_hooks.checkpoint.save_best', key) for key in hook.save_best if key != 'auto')
        elif isinstance(hook, EarlyStoppingHook):
            yield 'EarlyStoppingHook.monitor', hook.monitor
