"""Fixtures of the tests of the core."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def restored_fast_paths() -> Iterator[None]:
    """Restore the switches of `set_fast_paths` after a test."""
    from mmmaskformer.core.fast_paths import set_fast_paths

    before = set_fast_paths()
    yield
    set_fast_paths(**before)
