"""A lock that lasts as long as any process holds it."""

import subprocess
import sys

import pytest

from mmmaskformer.formats.folder_lock import LOCK, folder_lock


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
