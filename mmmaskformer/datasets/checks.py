"""What settings may be that the data sets take from mmengine's BaseDataset."""

from mmmaskformer.core.checks import Check, list_of, whole

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
