"""Training runs of a toy model with mmengine's own Runner, in this process or in a child that may be killed."""

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from helpers import runs
from mmmaskformer import registry  # noqa: F401  makes our names known


def draw(results: dict) -> dict:
    """An augmentation that draws from all three generators; the sample records the numbers drawn."""
    drawn = torch.tensor([np.random.rand(), random.random(), float(torch.rand(()))])
    return dict(inputs=drawn + results['number'], number=results['number'])


def keep(results: dict) -> dict:
    """No augmentation."""
    return dict(inputs=torch.ones(3) * results['number'], number=results['number'])


class Points(BaseDataset):
    """Seven points that are shifted at random."""

    METAINFO = dict(classes=('point',))

    def __init__(self, pipeline=(draw,), **kwargs):
        super().__init__(pipeline=pipeline, **kwargs)

    def load_data_list(self):
        return [dict(number=number) for number in range(7)]


class Line(BaseModel):
    """Learns the coordinates of the points; has dropout. ``seen`` stores its inputs in training."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.seen = []

    def forward(self, inputs, number, mode='tensor'):
        inputs = torch.stack(list(inputs))
        if mode != 'loss':
            return [float(self.linear(inputs).sum())]
        self.seen.append(inputs.clone())
        outputs = self.linear(nn.functional.dropout(inputs, 0.3, self.training))[:, 0]
        return dict(loss=(outputs - torch.tensor(number)).square().mean())


class Jumps(BaseMetric):
    """A score that depends on the weights and is sometimes a new best."""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(mIoU=abs(sum(results)) * 50 % 7)


class QuietRunner(Runner):
    """Does not query the versions of the installed compilers, which takes seconds."""

    def _log_env(self, env_cfg):
        pass


def make_runner(
    work_dir: Path,
    iters: int = 8,
    workers: int = 0,
    sampler: str = 'mmmaskformer.ResumableSampler',
    checkpoint: dict | None = None,
    accumulate: int = 1,
    wrap: Callable | None = None,
    metric: BaseMetric | None = None,
    by_epoch: bool = False,
    batch: int = 2,
    seed: int | None = 5,
    **kwargs,
) -> Runner:
    """A runner with our hooks.

    Args:
        work_dir: of the run.
        iters: iterations; a validation after every third and the last.
        workers: data-loading processes.
        sampler: type of the sampler.
        checkpoint: more arguments of the checkpoint hook; it saves after every second iteration.
        accumulate: batches per step of the optimiser.
        wrap: function that wraps the dataset.
        metric: of the validation.
        by_epoch: whether ``iters`` and all intervals count epochs, of 4 iterations each.
        batch: training samples per iteration.
        seed: of the run; None for a random one.
        kwargs: further arguments of the Runner.
    """
    torch.manual_seed(5)  # mmengine sets the seed only after the model is built
    dataset = Points()
    loader = dict(batch_size=batch, num_workers=workers, persistent_workers=workers > 0)
    checkpoint = dict(interval=2, by_epoch=by_epoch, save_best='mIoU', max_keep_ckpts=2) | (checkpoint or {})
    sampler = dict(type=sampler, shuffle=True)
    if by_epoch and 'Resumable' in sampler['type']:
        sampler['by_epoch'] = True
    return QuietRunner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(loader, dataset=wrap(dataset) if wrap else dataset, sampler=sampler),
        val_dataloader=dict(
            batch_size=7, num_workers=0, dataset=Points([keep]), sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        train_cfg=dict(by_epoch=by_epoch, val_interval=3) | {'max_epochs' if by_epoch else 'max_iters': iters},
        val_cfg=dict(),
        val_evaluator=Evaluator(metric or Jumps()),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1), accumulative_counts=accumulate),
        param_scheduler=dict(type='PolyLR', begin=0, end=4 * iters + 1 if by_epoch else iters + 1, by_epoch=False),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='mmmaskformer.WholeCheckpointHook', **checkpoint),
        ),
        custom_hooks=[dict(type='mmmaskformer.RepeatableRunHook'), dict(type='mmmaskformer.ResumeHook')],
        log_processor=dict(by_epoch=False, window_size=1),
        randomness=dict(seed=seed),
        default_scope='mmengine',
        experiment_name=f'toy_{next(_NUMBERS)}',
        cfg=Config(dict(kwargs)),
        **kwargs,
    )


_NUMBERS = iter(range(10**9))


def train_until(operation: int, work_dir: Path) -> int:
    """Train, resuming an existing run, in a process that is killed before an operation; see `kill_at`.

    The test process itself cannot be forked: autograd does not work in a fork of a process that has used it.

    Returns:
        The exit status, negative for a signal.
    """
    script = Path(__file__).with_name('toy_child.py')
    arguments = [str(script), str(operation), str(work_dir)]
    return runs.run_script(*arguments, cwd=work_dir.parent, check=False, pythonpath=script.parents[1]).returncode


def kill_at(operation: int, folder: Path) -> None:
    """Kill this process, without any cleanup, before its ``operation``-th change of a file below a folder."""
    left = operation

    def count(event: str, arguments: tuple) -> None:
        nonlocal left
        changes = event in ('os.rename', 'os.remove') or (event == 'open' and arguments[1] != 'r')
        if changes and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
