"""Run a command, write its output to a file and show its progress in a few lines.

``python tools/quickstart/progress.py LOG [--download MB] -- COMMAND …``. Reads the output of pip and mmengine's log;
needs only Python. If the command fails, it shows the end of the output and returns the same exit status.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from thread_waiting import thread_settings

EVERY = 15.0
"""Seconds between two lines of progress."""
SHOWN_ON_ERROR = 15

UNITS = {'kB': 1e-3, 'MB': 1.0, 'GB': 1e3}
FILE = re.compile(r'\s*(?:Downloading|Using cached) (\S+) \(([\d.]+) (kB|MB|GB)\)')
LOCAL_FILE = re.compile(r'Processing (/\S+\.whl)')
BYTES = re.compile(r'Progress (\d+) of (\d+)')
INSTALLING = re.compile(r'Installing collected packages: (.*)')
ITERATION = re.compile(r'Iter\((train|val|test)\)\s*\[\s*(\d+)/(\d+)\].*?eta: ((?:\d+ days?, )?[\d:]+)')
LOSS = re.compile(r'  loss: ([\d.]+)')
SCORES = re.compile(r'Iter\(val\) \[\d+/\d+\] .*?((?:panoptic/PQ|mIoU): [\d.]+)')


class Download:
    """Progress of pip's downloads.

    Args:
        expected: approximate total in megabytes.
    """

    def __init__(self, expected: float) -> None:
        self.expected, self.finished, self.current, self.started = expected, 0.0, 0.0, time.monotonic()

    def read(self, line: str) -> str | None:
        """Read a line of pip; returns a line of progress, or None."""
        if match := FILE.match(line):
            self._next_file(float(match[2]) * UNITS[match[3]])
        elif match := LOCAL_FILE.match(line):
            self._next_file(Path(match[1]).stat().st_size / 1e6)
        elif match := BYTES.match(line):
            self.current = int(match[1]) / 1e6
        elif match := INSTALLING.match(line):
            self._next_file(0.0)
            return (
                f'{self.finished:.0f} MB downloaded; installing {match[1].count(",") + 1} packages, which takes minutes'
            )
        else:
            return None
        return self._status()

    def _next_file(self, size: float) -> None:
        """Count the previous file as complete; pip prints the size of each file when it starts."""
        self.finished += self.current
        self.current = size

    def _status(self) -> str:
        done, seconds = self.finished + self.current, time.monotonic() - self.started
        left = max(self.expected - done, 0.0) * seconds / max(done, 1.0)
        return f'{done:.0f} of about {self.expected:.0f} MB, {duration(left)} left'


class Iterations:
    """Progress of a run of mmengine."""

    def read(self, line: str) -> str | None:
        """Read a line of the log; returns a line of progress, or None."""
        if match := SCORES.search(line):
            return f'validation: {match[1]}'
        if match := ITERATION.search(line):
            phase = {'train': 'step', 'val': 'validation image', 'test': 'image'}[match[1]]
            loss = f', loss {loss[1]}' if (loss := LOSS.search(line)) else ''
            return f'{phase} {match[2]} of {match[3]}{loss}, {match[4]} left'
        return None


def duration(seconds: float) -> str:
    """Seconds as mmengine prints them, such as 0:02:05."""
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'


def run(command: list[str], log: Path, readers: list) -> int:
    """Run the command.

    Args:
        command: program and arguments.
        log: file to append its output to.
        readers: objects whose ``read`` turns a line of output into a line of progress or None.

    Returns:
        The exit status.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    last, shown = deque(maxlen=SHOWN_ON_ERROR), -EVERY
    with open(log, 'a', encoding='utf-8') as file:
        file.write(f'$ {" ".join(command)}\n')
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # Without buffering: progress would come late, and after the output on standard error.
        environment = {**os.environ, 'PYTHONUNBUFFERED': '1', **thread_settings(os.environ)}
        process = subprocess.Popen(command, text=True, encoding='utf-8', errors='replace', env=environment, **pipes)
        for line in process.stdout:
            file.write(line)
            file.flush()
            last.append(line.rstrip('\n'))
            status = next(filter(None, (reader.read(line) for reader in readers)), None)
            final = status is not None and (status.startswith('validation: ') or 'installing' in status)
            if status is not None and (final or time.monotonic() - shown >= EVERY):
                shown = time.monotonic()
                print('  ' + status, flush=True)
        status = process.wait()
    if status:
        print(f'\nfailed: {" ".join(command)}\nall of its output: {log}\n', *last, sep='\n', file=sys.stderr)
    return status


def main() -> int:
    """Read the command line and run; returns the command's exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('log', type=Path, help='file to append the output to')
    parser.add_argument('--download', type=float, default=0.0, metavar='MB', help='approximate size of the download')
    parser.add_argument('command', nargs='+', help='after --: program and arguments')
    args = parser.parse_args()
    try:
        return run(args.command, args.log, [Download(args.download) if args.download else Iterations()])
    except KeyboardInterrupt:
        print(f'\ninterrupted; run the same command again to continue. Output so far: {args.log}', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
