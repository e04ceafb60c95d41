"""What makes the whole suite faster; nothing here changes what a test sees."""

import gc

from helpers.remembered import remember_formatted_configs

remember_formatted_configs()


def pytest_collection_finish() -> None:
    """Leave everything imported so far out of garbage collection, which mmengine asks for with every data set."""
    gc.collect()
    gc.freeze()
