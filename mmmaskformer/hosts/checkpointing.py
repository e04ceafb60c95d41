"""Atomic checkpoints, with all state that a resumed run needs besides the weights."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner

from mmmaskformer.core.checks import BOOLEAN, MAPPING, PATH, TEXT, checked, list_of, one_of, whole
from mmmaskformer.formats.folder_lock import hold_folder, release_folder
from mmmaskformer.formats.messages import some
from mmmaskformer.formats.whole_files import flush_folder, remove_parts, require_writable, write_whole
from mmmaskformer.hosts.best_checkpoint import take_over_best
from mmmaskformer.hosts.checkpoint_files import POINTER, VALIDATED
from mmmaskformer.hosts.early_stopping import note_monitored_scores
from mmmaskformer.hosts.file_backend import BACKEND
from mmmaskformer.registry import HOOKS

NAMES = TEXT | list_of(TEXT)
SHOWN = 5
"""Names of parameters in a message."""
OUTDATED = 'outdated_ckpts'
"""Key of mmengine's message hub: names of the files that a checkpoint replaces, removed when it is complete."""


@HOOKS.register_module()
@checked(
    interval=whole(1) | one_of(-1),
    by_epoch=BOOLEAN,
    save_optimizer=BOOLEAN,
    save_param_scheduler=BOOLEAN,
    out_dir=PATH.or_none(),
    max_keep_ckpts=whole(1) | one_of(-1),
    save_last=BOOLEAN,
    save_best=NAMES.or_none(),
    rule=NAMES.or_none(),
    greater_keys=NAMES.or_none(),
    less_keys=NAMES.or_none(),
    file_client_args=MAPPING.or_none(),
    filename_tmpl=TEXT.or_none(),
    backend_args=MAPPING.or_none(),
    published_keys=NAMES.or_none(),
    save_begin=whole(0),
)
class WholeCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook, safe against a kill or a full disk at any moment.

    - Each file, ``last_checkpoint`` included, is written under a temporary name, flushed to disk and renamed. Older
      checkpoints are removed when the new one is complete; leftovers of a killed run are removed when it is resumed.
    - A second training run in the same work dir is refused while the first one runs.
    - Only files in the run's own folder are removed, even if the work dir is a copy of another one.
    - Weights that are inf or NaN end the run and replace no checkpoint.
    - A checkpoint that is due within a gradient accumulation cycle is saved at the end of the cycle, since gradients
      are not saved.
    - The checkpoint of an iteration is saved again after the validation of that iteration, so that it records the end
      of the validation and the best checkpoint.

    Args:
        backend_args: as in mmengine, for storage other than a local disk.
        kwargs: arguments of mmengine's hook.

    Raises:
        TypeError: if mmengine's hook has no such argument.
    """

    def __init__(self, *args, backend_args: dict | None = None, **kwargs):
        taken = set(inspect.signature(CheckpointHook).parameters) - {'kwargs'}
        unknown = sorted(set(kwargs) - taken)
        if unknown:  # mmengine would accept them and fail at the first checkpoint
            raise TypeError(f'{type(self).__name__} does not take the keys {unknown}; expected some of {sorted(taken)}')
        remote = kwargs.get('file_client_args') is not None or '://' in str(kwargs.get('out_dir'))
        if backend_args is None and not remote:
            backend_args = dict(backend=BACKEND)
        super().__init__(*args, backend_args=backend_args, **kwargs)
        self._outdated: list[str] = []
        self._older_best: dict[str, str | None] = {}
        self._postponed = False
        self._noted_validation: int | None = None
        self._progress: dict[str, int] = {}

    def before_run(self, runner: Runner) -> None:
        """Lock the work dir against other training runs.

        Raises:
            BlockingIOError: if another process trains in this work dir.
        """
        if is_main_process() and isinstance(runner._train_loop, BaseLoop) and '://' not in str(runner.work_dir):
            hold_folder(runner.work_dir, 'training run')

    def before_train(self, runner: Runner) -> None:
        """Restore the state of a resumed run and remove leftovers of a killed one."""
        info = runner.message_hub.runtime_info
        for key, needed in (('save_optimizer', True), ('save_param_scheduler', bool(runner.param_schedulers))):
            if needed and not getattr(self, key):
                _log(f'default_hooks.checkpoint.{key}=False: this run cannot be resumed. Fix: {key}=True.')
        if self.save_best is not None and 'auto' not in self.key_indicators:
            self._take_over_best(runner)
        super().before_train(runner)
        if is_main_process() and self.backend_args == dict(backend=BACKEND):
            require_writable(self.out_dir, 'default_hooks.checkpoint.out_dir', folder=True)
            require_writable(Path(runner.work_dir) / POINTER)
        self.last_ckpt = self._own(info.get('last_ckpt'))
        for key, path in self._best.items():
            self._set_best(key, self._own(path))
            if path and not self._best[key]:
                _log(f'The best checkpoint {path} of the resumed run is not in {self.out_dir}; its score is kept.')
        self._outdated = list(info.get(OUTDATED, []))
        self._remove_outdated(runner)
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for part in remove_parts(folder, of_any_machine=True):
                    runner.logger.info(f'Removed {part}, a leftover of a killed run.')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Save a checkpoint that is due now, or was delayed until the end of the accumulation cycle."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if self._postponed:
            self._save_checkpoint(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Correct the iteration: after a validation mmengine's `FlexibleRunner` would store the next one."""
        checkpoint['meta'].update(self._progress)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, and record the end of the validation in the checkpoint of this iteration."""
        runner.message_hub.update_info(VALIDATED, runner.iter)
        note_monitored_scores(runner, metrics)
        super().after_val_epoch(runner, metrics)
        step = runner.epoch if self.by_epoch else runner.iter
        saved = self.last_ckpt is not None and Path(self.last_ckpt).name == self.filename_tmpl.format(step)
        if saved and self._noted_validation != runner.iter:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def after_train(self, runner: Runner) -> None:
        """Remove outdated checkpoints, and publish."""
        self._remove_outdated(runner)
        super().after_train(runner)
        release_folder(runner.work_dir)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint; the previous one is removed when this one and the run's checkpoint are complete."""
        if self.save_best and 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
            self._take_over_best(runner)
            self._set_best('', self._own(runner.message_hub.runtime_info.get('best_ckpt')))
        older = self._older_best = self._best
        for key in older:
            self._set_best(key, None)  # mmengine would remove the previous one before it writes this one
        self._progress = dict(epoch=runner.epoch, iter=runner.iter)
        with self._explaining(runner):
            super()._save_best_checkpoint(runner, metrics)
        self._progress = {}
        self._note_replaced_best()
        for key, path in older.items():
            self._set_best(key, self._best[key] or path)
        if self.last_ckpt is None:
            self._remove_outdated(runner)

    def _take_over_best(self, runner: Runner) -> None:
        for text in take_over_best(runner.message_hub.runtime_info, self.key_indicators, self.filename_tmpl):
            _log(text)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, update ``last_checkpoint`` and remove what it replaces, in this order."""
        if self._cycle_is_open(runner):
            if not self._postponed:
                runner.logger.info('The checkpoint is saved at the end of the gradient accumulation cycle.')
            self._postponed = True
            return
        self._postponed = False
        self._require_finite(runner, self.filename_tmpl.format(step))
        self._note_replaced_best()
        self._note_oldest(runner, step)
        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', path)
        runner.message_hub.update_info(OUTDATED, list(self._outdated))
        self._progress = dict(meta)
        with self._explaining(runner):
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                write_whole(Path(runner.work_dir) / POINTER, path)
        self._progress = {}
        self.last_ckpt = path
        self._noted_validation = runner.message_hub.runtime_info.get(VALIDATED)
        self._remove_outdated(runner)

    def _require_finite(self, runner: Runner, name: str) -> None:
        """Raise a `FloatingPointError` instead of replacing older checkpoints with weights that are inf or NaN."""
        parameters = dict(runner.model.named_parameters())
        wrong = [name for name, value in parameters.items() if not value.detach().isfinite().all()]
        if wrong:
            raise FloatingPointError(
                f'{self.out_dir}/{name} is not written: {len(wrong)} of {len(parameters)} parameters of the model hold '
                f'inf or NaN ({some(wrong, SHOWN)}). The newest complete checkpoint is {self.last_ckpt}. '
                'Fix: lower the learning rate, keep gradient clipping on (clip_grad max_norm 0.01), '
                'train without --amp or with bfloat16; then continue with --resume.'
            )

    def _cycle_is_open(self, runner: Runner) -> bool:
        """Whether the optimiser still accumulates gradients before its next step."""
        should_update = getattr(runner.optim_wrapper, 'should_update', None)
        if should_update is None or should_update():
            return False
        if self.by_epoch:
            _log('The epoch ends within a gradient accumulation cycle; a resumed run restarts the cycle.')
        return not self.by_epoch

    def _note_oldest(self, runner: Runner, step: int) -> None:
        """Track the number of checkpoints; beyond the limit, mark the oldest as outdated."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return
        if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
            self._outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids.popleft()))
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _note_replaced_best(self) -> None:
        best = self._best
        replaced = [path for key, path in self._older_best.items() if path and best[key] and path != best[key]]
        self._outdated += [Path(path).name for path in replaced]
        self._older_best = {}

    def _remove_outdated(self, runner: Runner) -> None:
        """Remove the outdated files, which are all in the run's own folder."""
        outdated, self._outdated = self._outdated, []
        if outdated and is_main_process():
            flush_folder(self.out_dir)  # the new names must be on disk before an older file is removed
        for path in [self.file_backend.join_path(self.out_dir, Path(name).name) for name in outdated]:
            if not is_main_process():
                continue
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
                runner.logger.info(f'Removed the outdated checkpoint {path}.')
            elif self.file_backend.isdir(path):  # DeepSpeed saves folders
                self.file_backend.rmtree(path)

    def _own(self, path: str | None) -> str | None:
        """The file of this name in the run's own folder, if it exists; a copied run records paths of the original."""
        if path is None:
            return None
        own = self.file_backend.join_path(self.out_dir, Path(path).name)
        return own if self.file_backend.exists(own) else None

    @property
    def _best(self) -> dict[str, str | None]:
        """The best checkpoint by metric; with a single metric, which mmengine stores elsewhere, under an empty name."""
        if self.save_best is None:
            return {}
        return {'': self.best_ckpt_path} if len(self.key_indicators) == 1 else dict(self.best_ckpt_path_dict)

    def _set_best(self, key: str, path: str | None) -> None:
        if key:
            self.best_ckpt_path_dict[key] = path
        else:
            self.best_ckpt_path = path

    @contextmanager
    def _explaining(self, runner: Runner) -> Iterator[None]:
        """Report the newest complete checkpoint if a file cannot be written."""
        try:
            yield
        except OSError as error:
            raise OSError(
                f'{self.out_dir}: a checkpoint of iteration {runner.iter} could not be written '
                f'({error.__cause__ or error}). The newest complete one is {self.last_ckpt}. Fix: free space or make '
                'the folder writable, then continue with --resume.'
            ) from error


def _log(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
