"""Runs a host's script in several processes, as torchrun and srun start them.

A script itself: ``python ranks.py LAUNCHER COUNT SCRIPT ARGUMENTS`` sets the variables of torchrun ('pytorch') or srun
('slurm') and forks; run by `helpers.runs.run_script`, the processes have imported both hosts already.
"""

import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from helpers import runs
from helpers.distributed import free_port


@HOOKS.register_module()
class RecordGradients(Hook):
    """Writes ``rankR.pt`` into the work folder: a list of losses and one of gradients by name, one entry a step."""

    def before_train(self, runner):
        self.losses, self.gradients = [], []
        model = getattr(runner.model, 'module', runner.model)

        def record(optimizer, args, kwargs):
            named = model.named_parameters()
            self.gradients.append({name: value.grad.clone() for name, value in named if value.grad is not None})

        runner.optim_wrapper.optimizer.register_step_pre_hook(record)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({key: float(value) for key, value in outputs.items()})

    def after_train(self, runner):
        torch.save((self.losses, self.gradients), Path(runner.work_dir) / f'rank{runner.rank}.pt')


def run_ranks(*arguments: str, cwd: Path, launcher: str = 'pytorch', count: int = 2) -> subprocess.CompletedProcess:
    """Run ``SCRIPT ARGUMENTS --launcher LAUNCHER`` in processes that form one group."""
    this = Path(__file__).resolve()
    return runs.run_script(
        str(this),
        launcher,
        str(count),
        *map(str, arguments),
        '--launcher',
        launcher,
        cwd=cwd,
        pythonpath=this.parents[1],
    )


def variables(launcher: str, rank: int, count: int, port: int) -> dict[str, str]:
    """The environment variables by which mmengine finds the group."""
    meeting = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    if launcher == 'slurm':
        return meeting | dict(
            SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS=str(count), SLURM_NODELIST='localhost'
        )
    return meeting | dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))


def fork_rank(environment: dict[str, str], script: str, arguments: list[str]) -> int:
    """Start one process; returns its number."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.environ.update(environment)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name='__main__')
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> int:
    launcher, count, script, *arguments = sys.argv[1:]
    port = free_port()
    started = {fork_rank(variables(launcher, rank, int(count), port), script, arguments) for rank in range(int(count))}
    failed = False
    while started:
        process, status = os.wait()
        started.discard(process)
        if status and not failed:  # the others would wait for it
            failed = True
            for other in started:
                os.kill(other, signal.SIGKILL)
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
