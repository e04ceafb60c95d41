"""A lock that lasts as long as any process holds it."""

import subprocess
import sys

import pytest

from mmmaskformer.formats.folder_lock import LOCK, folder_lock, hold_folder, release_folder


def test_a_second_holder_is_refused_until_the_first_one_ends(tmp_path):
    with folder_lock(tmp_path / 'new', 'sweep'):
        message = 'new: another sweep, or a run that it started, is using'
        with pytest.raises(BlockingIOError, match=message), folder_lock(tmp_path / 'new', 'sweep'):
            pass
        with folder_lock(tmp_path / 'other', 'sweep'):
            pass
    with folder_lock(tmp_path / 'new', 'sweep'):
        assert (tmp_path / 'new' / LOCK).is_file()


def test_a_process_that_was_started_holds_it_as_well(tmp_path):
    code = 'import sys; sys.stdin.read()'
    with folder_lock(tmp_path, 'sweep'):
        child = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, close_fds=False)
    with pytest.raises(BlockingIOError), folder_lock(tmp_path, 'sweep'):
        pass
    child.communicate()
    with folder_lock(tmp_path, 'sweep'):
        pass


def is_free(folder) -> bool:
    code = f'from mmmaskformer.formats.folder_lock import hold_folder; hold_folder({str(folder)!r}, "run")'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert not done.returncode or 'another run is using this folder. Fix: wait for it' in done.stderr
    return not done.returncode


def test_a_held_folder_is_free_when_it_is_released_and_contains_no_file(tmp_path):
    for _ in range(2):  # again in the same process
        hold_folder(tmp_path, 'run')
    assert not is_free(tmp_path)
    release_folder(tmp_path)
    release_folder(tmp_path)
    assert is_free(tmp_path) and not list(tmp_path.iterdir())


def test_children_of_a_process_that_ends_do_not_hold_its_folder(tmp_path):
    """As the data-loading processes of a killed run, which live on for some seconds."""
    code = (
        'import os, sys; from mmmaskformer.formats.folder_lock import hold_folder\n'
        f'hold_folder({str(tmp_path)!r}, "run")\n'
        'if os.fork() == 0: sys.stdin.read()\n'
        'else: print("held", flush=True); os._exit(0)'
    )
    process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b'held\n' and process.wait() == 0
    assert is_free(tmp_path)
    process.stdin.close()
    process.stdout.close()
