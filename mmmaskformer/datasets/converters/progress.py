"""Display of progress and remaining time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30


@contextmanager
def show_progress(what: str, total: int, done: int = 0, stream: TextIO | None = None) -> Iterator:
    """Show a progress bar in a terminal, or a line every half minute in a file.

    Args:
        what: description of the work.
        total: number of items.
        done: number of items that an earlier process finished; they do not count for the time estimate.
        stream: stream to write to; None for standard error.

    Yields:
        A function to call after each item.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TextColumn('left:'), TimeRemainingColumn(), console=Console(file=stream)) as bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda: bar.advance(task)
        return
    lines = _Lines(what, total, done, stream)
    yield lines.advance


class _Lines:
    """Writes a line at the beginning, every half minute and at the end."""

    def __init__(self, what: str, total: int, done: int, stream: TextIO) -> None:
        self.what, self.total, self.done, self.stream = what, total, done, stream
        self.before, self.start = done, time.monotonic()
        self.last = self.start
        self._write(f'{done} of {total}')

    def advance(self) -> None:
        self.done += 1
        now = time.monotonic()
        if self.done == self.total:
            self._write(f'{self.done} of {self.total}, {_duration(now - self.start)}')
        elif now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            left = (now - self.start) / (self.done - self.before) * (self.total - self.done)
            self._write(f'{self.done} of {self.total}, {_duration(left)} left')

    def _write(self, text: str) -> None:
        print(f'{self.what}: {text}', file=self.stream, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60} h {minutes % 60} min' if minutes >= 60 else f'{minutes} min {rest} s'
