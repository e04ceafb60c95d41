"""Speeds up the whole suite; nothing here changes what a test sees."""

import gc
from pathlib import Path

import pytest
from helpers.remembered import remember_formatted_configs

# Files whose tests take most of the time. pytest-xdist starts the first files first, so that no process is still busy
# with a long one when the others have finished.
LONG = (
    'test_hosts/test_processes.py',
    'test_tools/test_training.py',
    'test_hosts/test_test_scripts.py',
    'test_hosts/test_backbone_families.py',
    'test_apis/test_analysis.py',
    'test_hosts/test_resuming.py',
    'test_readme.py',
    'test_export/test_files.py',
    'test_core/test_training/test_one_pass_triton.py',
    'test_tools/test_interruptions.py',
    'test_installation.py',
    'test_hosts/test_foreign_checkpoints.py',
    'test_hosts/test_host_tools.py',
    'test_hosts/test_checkpointing.py',
    'test_tools/test_other_benchmarks.py',
    'test_tools/test_train_step_benchmark.py',
    'test_datasets/test_converters/test_published.py',
)

remember_formatted_configs()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the order of files, which pytest-xdist would sort by the number of their tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    folder = Path(__file__).parent
    rank = {folder / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """Exclude everything imported so far from garbage collection, which mmengine requests for every dataset."""
    gc.collect()
    gc.freeze()
