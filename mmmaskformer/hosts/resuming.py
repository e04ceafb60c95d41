"""Resuming an interrupted training run: its newest complete checkpoint, its data, and an unfinished validation."""

import logging
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor
from torch.utils.data import BatchSampler

from mmmaskformer.core.checks import checked
from mmmaskformer.datasets.samplers import ResumableSampler
from mmmaskformer.hosts.checkpoint_files import (
    POINTER,
    VALIDATED,
    CheckpointFolder,
    checkpoint_folder,
    is_safetensors,
    is_whole,
)
from mmmaskformer.hosts.resumed_data import note_new_epoch, note_seen_data, seen_samples
from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
@checked()
class ResumeHook(Hook):
    """Chooses the checkpoint for ``--resume`` and makes the resumed run equal to an uninterrupted one.

    - The run's own newest complete checkpoint takes precedence over ``load_from``; if there is none, the run starts
      from ``load_from``. A file given by ``--resume FILE`` (MMDetection), or a ``load_from`` inside the work dir, is
      resumed as requested. Without this hook, MMSegmentation would resume from ``load_from``, and MMDetection would
      ignore it.
    - A file without the state of optimiser or schedule is refused.
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
        self._seed = runner.seed
        training = isinstance(runner._train_loop, BaseLoop)
        folder = checkpoint_folder(runner)
        if runner._load_from is not None:
            _require_torch_file(Path(runner._load_from))
        if training and runner._resume and folder is not None:
            runner._load_from, runner._resume = _choose_checkpoint(runner, folder)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to resume from a file without the complete state of a training run."""
        if runner._resume and isinstance(runner._train_loop, BaseLoop):
            _require_training_state(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Start the data loader where the run was interrupted."""
        loop = runner.train_loop
        batches = loop.dataloader.batch_sampler
        is_ours = type(batches) is BatchSampler and isinstance(batches.sampler, ResumableSampler)
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if is_ours and batches.sampler.by_epoch != by_epoch:
            raise ValueError(
                f'train_dataloader.sampler.by_epoch={batches.sampler.by_epoch}, but train_cfg trains by '
                f'{"epoch" if by_epoch else "iteration"}. Fix: train_dataloader.sampler.by_epoch={by_epoch}'
            )
        if runner.seed != self._seed:
            _take_up_seed(batches, self._seed, runner.seed)
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


def _take_up_seed(batches, built_with: int | None, seed: int) -> None:
    """Give the sampler the seed of the interrupted run, which mmengine restores after it has built the loader."""
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


def _choose_checkpoint(runner: Runner, folder: CheckpointFolder) -> tuple[str | None, bool]:
    """The file to load, or None, and whether the run is resumed from it."""
    asked, options = runner._load_from, _command_line()
    own_folders = {folder.path.resolve(), Path(runner.work_dir).resolve()}
    if asked is not None and (asked == options.resume or Path(asked).resolve().parent in own_folders):
        if Path(asked).is_file() and not is_whole(Path(asked)):
            raise ValueError(f'checkpoint {asked} is damaged. Fix: resume from another one.')
        _log(f'The run is resumed from {asked}, as requested.', logging.INFO)
        return asked, True
    own = _newest_whole(Path(runner.work_dir), folder)
    start = asked or (options.cfg_options or {}).get('load_from') or _load_from_of_file(runner.cfg)
    if asked is None and start is not None:
        _require_torch_file(Path(start))
    if own is not None:
        beside = f' load_from={start} is ignored: it is used only until this run has a checkpoint.' if start else ''
        _log(f'The run is resumed from {own}.{beside}', logging.INFO)
        return str(own), True
    how = f'starts from the weights of load_from={start}' if start else 'starts at iteration 0'
    _log(f'There is no checkpoint of this run in {folder.path} to resume from; it {how}.')
    return start, False


def _newest_whole(work_dir: Path, folder: CheckpointFolder) -> Path | None:
    """The checkpoint in ``last_checkpoint``, if it is in this folder and complete, else the newest complete one."""
    found = folder.checkpoints()
    named = _pointed_to(work_dir / POINTER)
    pointed = folder.path / named.name if named else None
    if pointed in found.values():
        pointed = _unless_outdated(pointed, work_dir / POINTER, list(found.values()))
    if named and named.parent.resolve() != folder.path.resolve():
        _log(f'{work_dir / POINTER} names {named}, in another folder; only files in {folder.path} are considered.')
    candidates = sorted(found.values(), key=lambda path: path != pointed)  # stable: the newest first
    broken = []
    for path in candidates:
        if is_whole(path):
            if broken or path != pointed:
                reason = f'{_names(broken)} broken' if broken else f'{work_dir / POINTER} does not name it'
                _log(f'{path} is the newest complete checkpoint of this run ({reason}).')
            return path
        broken.append(path)
    if broken:
        raise ValueError(
            f'{folder.path}: none of the checkpoints {_names(broken)} is complete, so the run cannot be resumed. '
            'Fix: remove them, or start without --resume in another work dir.'
        )
    return None


def _unless_outdated(pointed: Path, pointer: Path, checkpoints: list[Path]) -> Path | None:
    """The checkpoint in ``last_checkpoint``; None if that file is older than a newer checkpoint.

    A user may edit the file to choose an older checkpoint. If a run was killed before it updated the file, the newest
    checkpoint counts.
    """
    newer = checkpoints[: checkpoints.index(pointed)]
    if any(path.stat().st_mtime > pointer.stat().st_mtime for path in newer):
        return None
    if newer:
        _log(f'{pointer} names {pointed.name}, although {_names(newer)} exist and are older than {pointer.name}.')
    return pointed


def _pointed_to(pointer: Path) -> Path | None:
    text = pointer.read_text(errors='replace').strip() if pointer.is_file() else ''
    return Path(text) if text else None


def _command_line():
    """Arguments of a host's training script: ``resume`` (a file) and ``cfg_options``, each None if absent."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--resume', nargs='?')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_known_args(sys.argv[1:])[0]


def _load_from_of_file(cfg: Config) -> str | None:
    """``load_from`` of the config file, which MMDetection's script clears when it gets ``--resume``."""
    if not cfg.filename or not Path(cfg.filename).is_file():
        return None
    return Config.fromfile(cfg.filename).get('load_from')


def _require_torch_file(path: Path) -> None:
    if path.is_file() and is_safetensors(path):
        raise ValueError(
            f'checkpoint {path} is a safetensors file: it holds only weights, and mmengine cannot read it. Fix: '
            "convert it, torch.save({'state_dict': safetensors.torch.load_file(source)}, 'weights.pth'), and set "
            'load_from=weights.pth, which starts a new run from these weights.'
        )


def _require_training_state(runner: Runner, checkpoint: dict) -> None:
    """Raise a `ValueError` if a checkpoint lacks state that mmengine would silently re-initialise, or has NaN in it."""
    meta = checkpoint.get('meta')
    missing = [] if isinstance(meta, dict) and 'iter' in meta and 'message_hub' in checkpoint else ['iteration']
    missing += ['optimizer state'] * ('optimizer' not in checkpoint)
    missing += ['learning-rate schedule'] * (bool(runner.param_schedulers) and 'param_schedulers' not in checkpoint)
    if missing:
        raise ValueError(
            f'checkpoint {runner._load_from} holds no {", no ".join(missing)}, so a run cannot be resumed from it. '
            'Fix: resume from an iter_*.pth (best_*.pth hold only weights), or start a new run from these weights: '
            f'load_from={runner._load_from} without --resume.'
        )
    tensors = list(_tensors_of(checkpoint['optimizer']))
    wrong = sum(not tensor.isfinite().all() for tensor in tensors)
    if wrong:
        raise ValueError(
            f'checkpoint {runner._load_from}: {wrong} of the {len(tensors)} tensors of its optimizer state hold inf or '
            'NaN, which the first step would bring into the weights. Fix: resume from an earlier checkpoint of that '
            f'run, or start a new run from these weights: load_from={runner._load_from} without --resume.'
        )


def _tensors_of(state) -> Iterator[Tensor]:
    """The tensors of floats in the state of one optimiser, or of several."""
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors_of(value)


def _validation_is_due(runner: Runner, done: int, end: int) -> bool:
    """Whether the uninterrupted loop would have validated before the next iteration or epoch."""
    loop = runner.train_loop
    if not done or runner.val_loop is None or runner.message_hub.runtime_info.get(VALIDATED) == runner.iter:
        return False
    loop._decide_current_val_interval()
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)


def _names(paths: list[Path]) -> str:
    return ', '.join(path.name for path in paths)


def _log(text: str, level: int = logging.WARNING) -> None:
    print_log(text, logger='current', level=level)
