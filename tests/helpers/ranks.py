"""Runs a host's script in several processes, as torchrun and srun start them.

Run as a script, ``python ranks.py LAUNCHER COUNT SCRIPT ARGUMENTS`` sets the variables of torchrun ('pytorch') or srun
('slurm') and forks. Run by `helpers.runs.run_script`, the processes have already imported both hosts.
"""

import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from helpers import runs
from helpers.distributed import free_port


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
    """The environment variables from which mmengine finds the group."""
    meeting = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    if launcher == 'slurm':
        return meeting | dict(
            SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS=str(count), SLURM_NODELIST='localhost'
        )
    return meeting | dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))


def fork_rank(environment: dict[str, str], script: str, arguments: list[str]) -> int:
    """Start one process; returns its id."""
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
        if status and not failed:  # otherwise the other processes would wait for it
            failed = True
            for other in started:
                os.kill(other, signal.SIGKILL)
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
