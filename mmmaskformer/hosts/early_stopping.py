"""The state of mmengine's EarlyStoppingHook, which its checkpoints do not hold."""

from collections.abc import Mapping

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner

MONITORED = 'monitored_scores'
"""Key of mmengine's message hub, which is saved in checkpoints: the scores of all validations by monitored result."""


def note_monitored_scores(runner: Runner, metrics: Mapping[str, float]) -> None:
    """Store the scores that decide on early stopping in the state that checkpoints save.

    Args:
        runner: runner in training, after a validation.
        metrics: results of the validation.
    """
    scores = {key: list(values) for key, values in runner.message_hub.runtime_info.get(MONITORED, {}).items()}
    for key in {hook.monitor for hook in _stopping(runner)} & metrics.keys():
        scores[key] = [*scores.get(key, ()), float(metrics[key])]
    if scores:
        runner.message_hub.update_info(MONITORED, scores)


def restore_early_stopping(runner: Runner) -> bool:
    """Replay the stored scores of a resumed run in its early-stopping hooks, in their order.

    Args:
        runner: runner whose training state is loaded.

    Returns:
        Whether the interrupted run had stopped early.
    """
    scores, stopped = runner.message_hub.runtime_info.get(MONITORED, {}), False
    for hook in _stopping(runner):
        for score in scores.get(hook.monitor, ()):
            stopped |= hook._check_stop_condition(score)[0]
    return stopped


def _stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
