"""Fixtures shared by the tests of the hosts' scripts and tools."""

import pytest
from helpers.host_tools import write_kinds


@pytest.fixture(scope='session')
def kinds(tmp_path_factory):
    """Small models of each kind with their configs and data; see `write_kinds`."""
    return write_kinds(tmp_path_factory.mktemp('kinds'))
