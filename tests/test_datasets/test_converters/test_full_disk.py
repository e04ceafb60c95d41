"""A disk that fills up while a dataset is prepared, simulated with a limit on the size of files."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from helpers.prepared import prepare_part, visible
from helpers.published import BUILDERS

from mmmaskformer.datasets.converters import staging
from mmmaskformer.datasets.converters.recipes import RECIPES


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize('limit', [0, 60, 90, 120, 160, 200])
@pytest.mark.parametrize('name', ['coco_panoptic', 'cityscapes_panoptic', 'ade20k_full'])
def test_the_error_names_a_file_and_the_same_command_continues(tmp_path, name, limit):
    """Depending on the limit, the lock, a file of an archive, the journal or a result cannot be written."""
    expected = BUILDERS[name](tmp_path / 'whole')
    prepare_part(expected)
    tree = BUILDERS[name](tmp_path / 'full')
    before = visible(tree.root)
    with file_size_limit(limit), pytest.raises(OSError, match=r'could not be written \(File too large\)') as error:
        prepare_part(tree)
    assert str(tree.root) in str(error.value) and 'Fix: free space' in str(error.value)
    unpacked = {name for archive in RECIPES[name].archives for name in visible(tree.root) if archive.folder in name}
    assert {file: data for file, data in visible(tree.root).items() if file not in unpacked - set(before)} == before
    assert not list(tree.root.rglob('lock'))
    prepare_part(tree)
    assert visible(tree.root) == visible(expected.root)


def test_a_lock_that_cannot_be_written_is_removed(tmp_path):
    """Without hard links it is created and then written."""
    with file_size_limit(0), pytest.raises(OSError):
        staging._claim_without_links(tmp_path / 'lock', '1 machine')
    assert not (tmp_path / 'lock').exists()
    assert staging._claim_without_links(tmp_path / 'lock', '1 machine')
