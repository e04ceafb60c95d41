"""Choose how the threads of torch wait for each other, by how busy the machine is.

A small model has many short parallel sections. On an idle machine its training step is nearly twice as fast if threads
spin between them. If other work needs the cores, threads that spin take them away from each other.
"""

import time
from collections.abc import Mapping
from pathlib import Path

STAT = Path('/proc/stat')
BUSY = 0.2
"""Share of the time of all cores from which the machine counts as busy."""
SPIN = {'GOMP_SPINCOUNT': '10000'}
"""A short spin; the default of libgomp is 30 times as long, and ruinous as soon as another process needs a core."""
SLEEP = {'OMP_WAIT_POLICY': 'PASSIVE'}


def thread_settings(environment: Mapping[str, str], stat: Path = STAT, seconds: float = 0.5) -> dict[str, str]:
    """Environment variables for a command that computes.

    Args:
        environment: of this process; a choice of the user is kept.
        stat: the kernel's counters, see proc(5).
        seconds: time between two readings.

    Returns:
        `SPIN` or `SLEEP`; nothing if the user has chosen, or on a system without counters.
    """
    if any(key in environment for key in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')) or not stat.is_file():
        return {}
    before = _times(stat)
    time.sleep(seconds)
    passed = [after - start for after, start in zip(_times(stat), before, strict=True)]
    idle = passed[3] + passed[4]  # idle, and waiting for a disk
    return SPIN if idle >= (1 - BUSY) * sum(passed) else SLEEP


def _times(stat: Path) -> list[int]:
    """Time of all cores since the start: user, nice, system, idle, iowait, irq, softirq, steal."""
    return [int(value) for value in stat.read_text().split('\n', 1)[0].split()[1:9]]
