"""Common settings of our datasets and their host base classes, with types and ranges."""

from collections.abc import Mapping

from mmmaskformer.core.checks import (
    BOOLEAN,
    MAPPING,
    PATH,
    Check,
    check_settings,
    list_of,
    number,
    refuse_unknown_keys,
    whole,
)

INDICES = (whole(0) | list_of(whole(0))).or_none()
FILTERS = {'filter_empty_gt': BOOLEAN, 'min_size': number(0)}
"""Keys of ``filter_cfg``."""
PIPELINE = Check(
    'a list of transforms',
    lambda value: isinstance(value, list | tuple) and not any(isinstance(item, str | int | float) for item in value),
)
LABELS = Check(
    'a list of different labels, whole numbers of at least 0',
    lambda value: (
        isinstance(value, list | tuple | range | set | frozenset)
        and all(map(whole(0).accepts, value))
        and len(set(value)) == len(value)
    ),
)
DATASET_SETTINGS = dict(
    metainfo_file=PATH.or_none(),
    metainfo=MAPPING.or_none(),
    reduce_zero_label=BOOLEAN,
    backend_args=MAPPING.or_none(),
    data_root=PATH.or_none(),
    test_mode=BOOLEAN,
    lazy_init=BOOLEAN,
    serialize_data=BOOLEAN,
    max_refetch=whole(0),
    data_prefix=MAPPING,
    indices=INDICES,
    pipeline=PIPELINE,
)
"""By name; see `mmmaskformer.core.checks.checked`."""


def check_filter(name: str, filter_cfg: Mapping | None) -> None:
    """Check the keys and values of ``filter_cfg``, which mmengine's datasets look up and otherwise ignore.

    Args:
        name: of the class, for messages.
        filter_cfg: None for none.

    Raises:
        TypeError: if there is an unknown key.
        ValueError: if a value is wrong.
    """
    refuse_unknown_keys(f'{name}.filter_cfg', filter_cfg or {}, FILTERS)
    check_settings(f'{name}.filter_cfg', filter_cfg or {}, FILTERS)
