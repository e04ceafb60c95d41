"""Resuming an interrupted training run: its newest complete checkpoint, its data, and an unfinished validation."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path

from mmengine.dataset import DefaultSampler
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, FlexibleRunner, IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler

from mmmaskformer.core.checks import checked
from mmmaskformer.datasets.samplers import ResumableSampler
from mmmaskformer.hosts.checkpoint_files import VALIDATED, checkpoint_folder
from mmmaskformer.hosts.early_stopping import restore_early_stopping
from mmmaskformer.hosts.newest_checkpoint import choose_checkpoint, require_torch_file
from mmmaskformer.hosts.resumed_data import note_new_epoch, note_seen_data, seen_samples
from mmmaskformer.hosts.resumed_settings import require_training_state
from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
@checked()
class ResumeHook(Hook):
    """Chooses the checkpoint for ``--resume`` and makes the resumed run equal to an uninterrupted one.

    - The run's own newest complete checkpoint takes precedence over ``load_from``; if there is none, the run starts
      from ``load_from``. A file given by ``--resume FILE`` (MMDetection), or a ``load_from`` inside the work dir, is
      resumed as requested. Without this hook, MMSegmentation would resume from ``load_from``, and MMDetection would
      ignore it.
    - A file without the state of optimiser or schedule is refused, as is one of another optimiser, of other schedulers
      or of a run with EMAHook if the config has none. Other changes of the config are logged, with the effect.
    - Early stopping counts the validations before the interruption. A run that has stopped early stays stopped.
    - The data loader starts at the right sample if the sampler is a `ResumableSampler`; no data are read again. In
      epoch-based training with another sampler, a checkpoint within an epoch is refused. A change of batch size or
      number of processes is logged, and training continues with the samples not yet seen. The seed is that of the
      interrupted run.
    - A validation that was due after the resumed iteration but did not finish is run first.
    """

    priority = 'VERY_LOW'  # after the checkpoint hook, which a validation needs

    _seed: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint, before mmengine does."""
        if not isinstance(runner, FlexibleRunner):  # which has loaded it already
            self.choose_checkpoint(runner)

    def choose_checkpoint(self, runner: Runner) -> None:
        """Set the file that the runner loads.

        Args:
            runner: runner that has loaded nothing yet.
        """
        self._seed = runner.seed
        training = isinstance(runner._train_loop, BaseLoop)
        folder = checkpoint_folder(runner)
        if runner._load_from is not None:
            require_torch_file(Path(runner._load_from))
        if training and runner._resume and folder is not None:
            runner._load_from, runner._resume = choose_checkpoint(runner, folder)
        elif training and folder is not None and folder.checkpoints():
            _log(
                f'{folder.path} holds checkpoints of an earlier run, the newest of them '
                f'{next(iter(folder.checkpoints().values())).name}: this run does not continue it, and replaces files '
                'of the same name. Fix: --resume to continue it, or another --work-dir.'
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to resume from a file without the complete state of a training run."""
        if runner._resume and isinstance(runner._train_loop, BaseLoop):
            require_training_state(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Start the data loader where the run was interrupted.

        Raises:
            ValueError: if processes start at different iterations, the sampler does not match the loop, or a checkpoint
                within an epoch cannot be resumed.
        """
        loop = runner.train_loop
        _require_equal_progress(runner)
        if runner._resume:
            _report_end(runner)
        batches = loop.dataloader.batch_sampler
        is_ours = type(batches) is BatchSampler and isinstance(batches.sampler, ResumableSampler)
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if is_ours and batches.sampler.by_epoch != by_epoch:
            raise ValueError(
                f'train_dataloader.sampler.by_epoch={batches.sampler.by_epoch}, but train_cfg trains by '
                f'{"epoch" if by_epoch else "iteration"}. Fix: train_dataloader.sampler.by_epoch={by_epoch}'
            )
        if runner.seed != self._seed:
            _restore_seed(batches, self._seed, runner.seed)
        samples = seen_samples(runner) if loop.iter else 0
        note_seen_data(runner, samples)
        if by_epoch and loop.iter:
            return _start_within_epoch(loop, samples, batches.sampler if is_ours else None)
        if not (isinstance(loop, IterBasedTrainLoop) and loop.iter):
            return
        if not is_ours:
            return _log(
                f'The data of the first {loop.iter} iterations are read again in order to skip them. Faster: '
                "train_dataloader.sampler.type='mmmaskformer.ResumableSampler' without a batch_sampler."
            )
        batches.sampler.start_at(samples)
        # a new iterator, since the workers of the first one have started loading the first samples
        iterator = type(loop.dataloader_iterator)(loop.dataloader)
        loop.dataloader_iterator = _AfterSkipping(iterator, loop.iter)
        _log(f'The data loader starts at iteration {loop.iter}; no data are read again.', logging.INFO)

    def before_train_epoch(self, runner: Runner) -> None:
        """Run the validation that was interrupted."""
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        done, end = (runner.iter, runner.max_iters) if by_iteration else (runner.epoch, runner.max_epochs)
        if runner._resume and _validation_is_due(runner, done, end):
            unit = 'iteration' if by_iteration else 'epoch'
            _log(f'The validation after {unit} {done} did not finish; running it now.')
            runner.val_loop.run()
        # in epoch-based training this hook is called before each epoch
        runner._resume = False
        if not by_iteration:
            note_new_epoch(runner)


def _choosing(load: Callable) -> Callable:
    """`FlexibleRunner.load_or_resume`, which is called before the hooks' `before_run`."""

    @functools.wraps(load)
    def load_or_resume(self: FlexibleRunner) -> None:
        for hook in [] if self._has_loaded else self.hooks:
            if isinstance(hook, ResumeHook):
                hook.choose_checkpoint(self)
        load(self)

    load_or_resume.chooses = True  # type: ignore[attr-defined]
    return load_or_resume


if not hasattr(FlexibleRunner.load_or_resume, 'chooses'):
    FlexibleRunner.load_or_resume = _choosing(FlexibleRunner.load_or_resume)


def _require_equal_progress(runner: Runner) -> None:
    """Raise a `ValueError` if processes start at different iterations: mmengine would average their gradients."""
    if get_world_size() == 1:
        return
    found = all_gather_object(runner.train_loop.iter)
    if len(set(found)) > 1:
        raise ValueError(
            f'the {len(found)} processes start at the iterations {found}, since they found different checkpoints in '
            f'{runner.work_dir}. Fix: put the work dir on a disk that all machines share'
        )


def _report_end(runner: Runner) -> None:
    """Log that a resumed run has no iteration left, because it is complete or has stopped early."""
    loop = runner.train_loop
    if restore_early_stopping(runner):
        loop.stop_training = True
        return _log(f'The run was stopped early, after iteration {loop.iter}; it is not continued.')
    done, end, unit = loop.iter, loop.max_iters, 'iteration'
    if isinstance(loop, EpochBasedTrainLoop):
        done, end, unit = loop.epoch, loop.max_epochs, 'epoch'
    if done >= end:
        _log(f'The checkpoint is of {unit} {done} and train_cfg ends the run at {end}: nothing is left to train.')


def _restore_seed(batches, built_with: int | None, seed: int) -> None:
    """Set the sampler's seed to that of the interrupted run; mmengine restores it only after building the loader."""
    sampler = getattr(batches, 'sampler', None)
    if getattr(sampler, 'seed', None) != built_with:
        return  # the sampler has a seed of its own, which is kept
    if isinstance(sampler, ResumableSampler | DefaultSampler):
        sampler.seed = seed
        return _log(f'The order of the data uses the seed of the interrupted run, {seed}.', logging.INFO)
    _log(
        f'The interrupted run had the seed {seed}, but the order of the data has the seed {built_with}: some samples '
        f'are seen again and others are skipped. Fix: randomness.seed={seed}.'
    )


def _start_within_epoch(loop: EpochBasedTrainLoop, start: int, sampler: ResumableSampler | None) -> None:
    """Start the resumed epoch with the samples it has not seen; refuse or warn where that is impossible.

    Args:
        loop: the training loop.
        start: number of samples of the epoch that all processes have seen.
        sampler: sampler of the data; None if it cannot start at an arbitrary sample.
    """
    per_iteration = (getattr(loop.dataloader.batch_sampler, 'batch_size', None) or 1) * get_world_size()
    seen = -(-start // per_iteration)
    if sampler is not None:
        sampler.start_at(start)
        done = f'{seen} of {len(loop.dataloader)} iterations'
        return _log(f'Epoch {loop.epoch + 1} continues after {done}.', logging.INFO)
    fix = "Fix: train_dataloader.sampler=dict(type='mmmaskformer.ResumableSampler', by_epoch=True)"
    if seen:
        raise ValueError(
            f'the checkpoint of iteration {loop.iter} was saved within epoch {loop.epoch + 1}, after {seen} of '
            f'{len(loop.dataloader)} iterations, whose data would be used again. {fix}; or resume from a checkpoint '
            'of the end of an epoch'
        )
    _log(
        'The data have the order of an uninterrupted run, but the augmentation uses other random numbers, unless it '
        f'runs in workers that are not persistent. {fix}.'
    )


class _AfterSkipping:
    """Yields ``count`` values of None, in place of skipped batches, and then the values of an iterator.

    mmengine takes these values one by one to reach the iteration; onedl-mmengine calls `skip_iter` instead.
    """

    def __init__(self, iterator, count: int):
        self._iterator = iterator
        self._count = count

    def __iter__(self):
        return self

    def __next__(self):
        if self._count:
            self._count -= 1
            return None
        return next(self._iterator)

    def skip_iter(self, count: int) -> None:
        """Skip batches without reading them."""
        self._count = max(self._count - count, 0)


def _validation_is_due(runner: Runner, done: int, end: int) -> bool:
    """Whether the uninterrupted loop would have validated before the next iteration or epoch."""
    loop = runner.train_loop
    if not done or runner.val_loop is None or runner.message_hub.runtime_info.get(VALIDATED) == runner.iter:
        return False
    loop._decide_current_val_interval()
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)


def _log(text: str, level: int = logging.WARNING) -> None:
    print_log(text, logger='current', level=level)
