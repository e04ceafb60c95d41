"""The data that a resumed training run has already seen, also after a change of batch size or number of processes."""

import logging
from dataclasses import asdict, dataclass

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

SEEN_DATA = 'seen_data'
"""Key of mmengine's message hub, which is saved in checkpoints: a `SeenData` as a dict."""


@dataclass(frozen=True)
class SeenData:
    """The data seen until the run was started or resumed, or until the epoch began.

    Attributes:
        iteration: number of finished iterations.
        epoch: current epoch, from 0; 0 in iteration-based training.
        samples: samples seen by all processes; in epoch-based training, within the epoch.
        per_iteration: samples that all processes together see per iteration from here on.
        dataset_size: samples in a pass over the data.
        processes: number of training processes; 0 in checkpoints that do not record it.
    """

    iteration: int
    epoch: int
    samples: int
    per_iteration: int
    dataset_size: int
    processes: int = 0


def note_seen_data(runner: Runner, samples: int) -> None:
    """Store the number of samples seen before the next iteration in the state that checkpoints save.

    Args:
        runner: runner in training.
        samples: samples seen by all processes; in epoch-based training, within the epoch.
    """
    runner.message_hub.update_info(SEEN_DATA, asdict(_now(runner.train_loop, samples)))


def note_new_epoch(runner: Runner) -> None:
    """Store the beginning of an epoch, unless a resumed epoch is continued."""
    loop, noted = runner.train_loop, _noted(runner)
    if noted is None or (noted.iteration, noted.epoch) != (loop.iter, _epoch(loop)):
        note_seen_data(runner, 0)


def seen_samples(runner: Runner) -> int:
    """Number of samples that all processes of a resumed run have seen; in epoch-based training, within the epoch.

    A change of batch size, number of processes or dataset is logged once, with its effects.

    Args:
        runner: runner whose training state is loaded.

    Raises:
        ValueError: in epoch-based training, if a checkpoint without this record was saved with another batch size or
            dataset.
    """
    loop, noted = runner.train_loop, _noted(runner)
    if noted is None:
        return _seen_with_these_batches(loop)
    now = _now(loop, 0)
    if (noted.per_iteration, noted.dataset_size) != (now.per_iteration, now.dataset_size):
        _warn(
            f'Until iteration {loop.iter} the run saw {noted.per_iteration} samples per iteration of a dataset of '
            f'{noted.dataset_size}; from here on it sees {now.per_iteration} of {now.dataset_size}. Its losses differ '
            'from an uninterrupted run, and the learning-rate schedule still counts iterations.'
        )
    if noted.processes not in (0, now.processes):
        _warn(
            f'Until iteration {loop.iter} the run had {_processes(noted.processes)}; from here on it has '
            f'{_processes(now.processes)}. Its losses differ from an uninterrupted run: each process averages the '
            'classification loss over its own queries (unless criterion.class_mean_over_ranks=True), computes batch '
            'norms over its own images and draws its own random numbers for dropout.'
        )
    if noted.epoch != now.epoch:
        return 0
    return noted.samples + (now.iteration - noted.iteration) * noted.per_iteration


def _now(loop: BaseLoop, samples: int) -> SeenData:
    size = len(loop.dataloader.dataset)
    return SeenData(loop.iter, _epoch(loop), samples, _per_iteration(loop), size, get_world_size())


def _noted(runner: Runner) -> SeenData | None:
    found = runner.message_hub.runtime_info.get(SEEN_DATA)
    return SeenData(**found) if isinstance(found, dict) and found else None


def _seen_with_these_batches(loop: BaseLoop) -> int:
    """Number of samples seen, assuming the current batch size, for checkpoints without a `SeenData`."""
    if not isinstance(loop, EpochBasedTrainLoop):
        return loop.iter * _per_iteration(loop)
    iterations, length = loop.iter - loop.epoch * len(loop.dataloader), len(loop.dataloader)
    if not 0 <= iterations <= length:
        raise ValueError(
            f'the checkpoint of iteration {loop.iter} is of epoch {loop.epoch + 1}, but epochs now have {length} '
            'iterations. Fix: resume with the batch size, number of processes and data of the interrupted run'
        )
    return iterations * _per_iteration(loop)


def _per_iteration(loop: BaseLoop) -> int:
    return (getattr(loop.dataloader.batch_sampler, 'batch_size', None) or 1) * get_world_size()


def _epoch(loop: BaseLoop) -> int:
    return loop.epoch if isinstance(loop, EpochBasedTrainLoop) else 0


def _processes(count: int) -> str:
    return f'{count} process{"es" * (count != 1)}'


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
