"""What our data sets and their hosts' bases take alike, and what it may be."""

from mmmaskformer.core.checks import BOOLEAN, MAPPING, PATH, whole

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
)
"""By name; see `mmmaskformer.core.checks.checked`."""
