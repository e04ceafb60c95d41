"""What makes the whole suite faster; nothing here changes what a test sees."""

import gc
from pathlib import Path

import pytest
from helpers.remembered import remember_formatted_configs

# Files whose tests take most of the time. pytest-xdist hands out the first files first, so that no process is left with
# a long one at the end, while the others have nothing to do.
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
    """Keep the order of files, which pytest-xdist sorts by the number of their tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first."""
    folder = Path(__file__).parent
    rank = {folder / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """Leave everything imported so far out of garbage collection, which mmengine asks for with every data set."""
    gc.collect()
    gc.freeze()
