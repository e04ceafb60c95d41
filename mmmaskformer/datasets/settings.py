"""Common settings of our datasets and their host base classes, with types and ranges."""

from mmmaskformer.core.checks import BOOLEAN, MAPPING, PATH, Check, list_of, whole

INDICES = (whole(0) | list_of(whole(0))).or_none()
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
