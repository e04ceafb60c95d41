"""Runs a function on many items in several processes, which end together with the parent process."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

FEW = 32
"""Number of items below which starting processes takes longer than the work."""

Item = TypeVar('Item')
Result = TypeVar('Result')


def number_of_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def work_on(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Apply a function to all items, in this process if there are few.

    Args:
        work: a function that can be pickled.
        items: can be pickled.
        workers: number of processes.

    Yields:
        Each item with the result of the function, in the order of the items.

    Raises:
        ValueError: if a process was killed. Errors of the function are passed on.
    """
    if workers == 1 or len(items) < FEW:
        for item in items:
            yield item, work(item)
        return
    with _pool(workers) as pool:
        try:
            yield from zip(items, pool.map(work, items, chunksize=4), strict=True)
        except BrokenProcessPool as error:
            raise ValueError(
                f'one of {workers} processes was killed, probably for lack of memory. Expected all to finish. Fix: run '
                f'the command again, which continues where it stopped, with --workers {max(1, workers // 2)}.'
            ) from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes, since a forked one could inherit locks that other threads hold."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn'), initializer=_end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker process when its parent is killed, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, 'runs in processes that multiprocessing started'

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
