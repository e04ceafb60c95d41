"""Conversion between preprocessor_config.json of transformers and the settings of a model."""

import math
from collections.abc import Mapping
from typing import Any

from mmmaskformer.checkpoints.settings import Settings
from mmmaskformer.checkpoints.writers import PREPROCESSOR

EDGES = {'shortest_edge': 800, 'longest_edge': 1333}
"""Default image size of the library, if the file has none."""

OLD_LONGEST = 1333
"""Default limit of the long edge in older files, whose size is one number."""

DIVISOR = 32
"""Default divisor of both edges; the key size_divisibility of older files is no longer read by the library."""

BILINEAR = 2
"""PIL's filter with which images are resized here."""


def hub_preprocessor(settings: Settings) -> dict:
    """The content of preprocessor_config.json.

    Args:
        settings: settings of the model.
    """
    size = {'shortest_edge': settings.short_edge, 'longest_edge': settings.max_size}
    if settings.image_size is not None:
        size = dict(zip(('height', 'width'), settings.image_size, strict=True))
    return {
        'image_processor_type': 'MaskFormerImageProcessor',
        'do_resize': settings.resize,
        'size': size,
        'size_divisor': settings.size_divisor,
        'resample': BILINEAR,
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': [value / 255 for value in settings.mean],
        'image_std': [value / 255 for value in settings.std],
        'ignore_index': int(settings.dataset_meta.get('ignore_index', 255)),
        'do_reduce_labels': False,
    }


def settings_of_preprocessor(preprocessor: Mapping) -> dict:
    """Settings in the file, as arguments of `Settings`.

    Args:
        preprocessor: content of preprocessor_config.json; empty if there is no such file.

    Raises:
        ValueError: if the library does not accept a value.
    """
    if not preprocessor:
        return {}
    divisor = DIVISOR if preprocessor.get('size_divisor') is None else preprocessor['size_divisor']
    _require(isinstance(divisor, int) and divisor >= 0, 'size_divisor', divisor, 'a whole number of at least 0')
    found = {'size_divisor': max(1, divisor), 'resize': bool(preprocessor.get('do_resize', True))}
    found |= _size(preprocessor, max(1, divisor)) | _normalisation(preprocessor)
    resample = preprocessor.get('resample', BILINEAR)
    if found['resize'] and resample != BILINEAR:
        found['notes'] = (
            f'{PREPROCESSOR}: images are resized with resample={resample!r} there, here always bilinearly',
        )
    return found


def _size(preprocessor: Mapping, divisor: int) -> dict:
    size: Any = preprocessor.get('size')
    if size is None:
        size = EDGES
    elif isinstance(size, int):  # as in older files
        longest = preprocessor.get('max_size')
        size = {'shortest_edge': size, 'longest_edge': OLD_LONGEST if longest is None else longest}
    for keys in (tuple(EDGES), ('height', 'width')):
        if isinstance(size, Mapping) and all(isinstance(size.get(key), int) and size[key] > 0 for key in keys):
            one, other = (size[key] for key in keys)
            if keys == tuple(EDGES):
                return {'short_edge': one, 'max_size': other}
            return {'image_size': tuple(math.ceil(edge / divisor) * divisor for edge in (one, other))}
    wanted = "a number, or an object with 'shortest_edge' and 'longest_edge' or with 'height' and 'width', in pixels"
    raise _wrong('size', size, wanted)


def _normalisation(preprocessor: Mapping) -> dict:
    """Mean and standard deviation for values from 0 to 255."""
    factor = preprocessor.get('rescale_factor', 1 / 255) if preprocessor.get('do_rescale', True) else 1
    _require(_is_number(factor) and factor > 0, 'rescale_factor', factor, 'a number above 0')
    normalises = preprocessor.get('do_normalize', True)
    found = {}
    for ours, theirs, neutral, published in (
        ('mean', 'image_mean', 0.0, Settings.mean),
        ('std', 'image_std', 1.0, Settings.std),
    ):
        given = preprocessor.get(theirs)
        values: Any = [value / 255 for value in published] if given is None else given
        values = values if normalises else neutral
        values = [values] * 3 if _is_number(values) else values
        fits = isinstance(values, list) and len(values) == 3 and all(map(_is_number, values))
        _require(fits and (ours == 'mean' or min(values) > 0), theirs, given, 'a number, or a list of three')
        found[ours] = tuple(round(value / factor, 4) for value in values)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(fits: bool, key: str, value: Any, wanted: str) -> None:
    if not fits:
        raise _wrong(key, value, wanted)


def _wrong(key: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f'{PREPROCESSOR}: {key} is {value!r}, expected {wanted}. Fix: correct it')
