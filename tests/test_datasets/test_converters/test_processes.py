"""Work in several processes: killed processes, lack of memory, progress."""

import io
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers.fresh import ROOT
from helpers.prepared import more_of_cityscapes, prepare_part, visible
from helpers.published import BUILDERS, end_process

from mmmaskformer.datasets.converters import engine, processes, progress
from mmmaskformer.datasets.converters.recipes import RECIPES

CITY = RECIPES['cityscapes_panoptic']


@pytest.fixture
def tree(tmp_path):
    return BUILDERS['cityscapes_panoptic'](tmp_path)


KILLED = """
import multiprocessing, os, signal, sys
from mmmaskformer.datasets.converters import engine
from mmmaskformer.datasets.converters.recipes import RECIPES
finish = engine.work_on
def run(work, items, workers):
    for count, pair in enumerate(finish(work, items, workers)):
        if count == 5:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        yield pair
engine.work_on = run
engine.prepare(RECIPES['cityscapes_panoptic'], sys.argv[1], workers=2, partial_set=True)
"""


def test_killed_with_its_processes_and_continued_by_others(tree):
    more_of_cityscapes(tree, 40)
    before = visible(tree.root)
    process = subprocess.run(
        [sys.executable, '-c', KILLED, str(tree.root)], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    children = [int(number) for number in process.stdout.split()]
    assert len(children) == 2
    wait_until(lambda: not any(is_running(number) for number in children))
    assert visible(tree.root) == before
    noted = (tree.root / '.cityscapes_panoptic.preparing/journal.jsonl').read_text().count('"split"')
    assert noted == 5

    done = prepare_part(tree, workers=2)
    assert done.record.images == {'train': 42, 'val': 1}
    content = json.loads((tree.root / 'gtFine/cityscapes_panoptic_train.json').read_text())
    names = sorted(row['file_name'] for row in content['annotations'])
    assert names == sorted(path.name for path in (tree.root / 'gtFine/cityscapes_panoptic_train').iterdir())
    assert len(names) == 42


def is_running(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'the condition was not met in time'
        time.sleep(0.05)


def test_process_without_memory(tree, monkeypatch):
    monkeypatch.setattr(engine, '_try_sample', lambda *args: None)
    monkeypatch.setattr(processes, 'FEW', 1)
    with pytest.raises(
        ValueError, match=r'one of 2 processes was killed, .*continues where it stopped, with --workers 1'
    ):
        prepare_part(tree, CITY._replace(convert=end_process), workers=2)


def test_progress_shows_the_remaining_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    stream = io.StringIO()
    with progress.show_progress('ade20k: images', 100, 50, stream) as advance:
        for _ in range(50):
            now[0] += 4
            advance()
    lines = stream.getvalue().splitlines()
    assert lines[0] == 'ade20k: images: 50 of 100' and lines[-1] == 'ade20k: images: 100 of 100, 3 min 20 s'
    assert lines[1] == 'ade20k: images: 58 of 100, 2 min 48 s left'  # 8 images in 32 s, 42 to go
    assert len(lines) == 2 + 6


def test_progress_in_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with progress.show_progress('images', 4, 1, stream) as advance:
        for _ in range(3):
            advance()
    assert 'images' in stream.getvalue() and '4/4' in stream.getvalue()
