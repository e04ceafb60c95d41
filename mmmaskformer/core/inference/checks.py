"""Checks of the arguments of inference: invalid input raises an error instead of giving an arbitrary result."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from mmmaskformer.core.checks import BOOLEAN, FRACTION, SIZE, Check, check_settings, whole
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.numerics import NonFiniteLogitsError, at_least_float32
from mmmaskformer.core.shapes import check_masks, form_of, is_float
from mmmaskformer.core.torch_versions import is_recorded

Arguments = ParamSpec('Arguments')
Result = TypeVar('Result')

SETTINGS: Mapping[str, Check] = {
    'object_threshold': FRACTION,
    'overlap_threshold': FRACTION,
    'score_threshold': FRACTION,
    'min_area': whole(0),
    'max_per_image': whole(1),
    'resize_masks_first': BOOLEAN,
}
"""Declarations of the settings of the functions in this package, by name."""


def checked_inference(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator: the function checks ``class_logits``, ``masks`` and its settings before it computes anything.

    It synchronises with a GPU once. The heads for MMSegmentation and MMDetection check the logits of a whole batch
    themselves and call the undecorated function (`inspect.unwrap`).

    Args:
        function: of class logits (Q, K + 1), masks of the same queries, and settings by name.

    Returns:
        The decorated function, which raises a `ValueError` for inconsistent arguments and values out of range, and a
        `NonFiniteLogitsError` for logits that are inf or NaN.
    """

    @functools.wraps(function)
    def checking(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if not is_recorded():
            given: dict[str, Any] = {**dict(zip(('class_logits', 'masks'), args, strict=False)), **kwargs}
            if {'class_logits', 'masks'} <= set(given):  # without them, Python's own error says what is missing
                check_inputs(function.__name__, **given)
        return function(*args, **kwargs)

    return checking


def check_inputs(where: str, class_logits: Tensor, masks: QueryMasks, **settings: Any) -> None:
    """Check the logits and the settings of one image.

    Args:
        where: name of the function, for messages.
        class_logits: (Q, K + 1) float, K of at least 1.
        masks: masks of the same Q queries.
        settings: see `SETTINGS`; and ``is_thing``, (K,) bool, for a function that uses it.

    Raises:
        ValueError: if they are inconsistent, or a setting is out of range.
        NonFiniteLogitsError: if logits are inf or NaN.
    """
    check_settings(where, settings, SETTINGS)
    if not is_float(class_logits) or class_logits.ndim != 2:
        raise ValueError(f'{where}: class_logits are {form_of(class_logits)}; expected (Q, K + 1) float of one image')
    outputs = class_logits.shape[1]
    if outputs < 2:
        raise ValueError(f'{where}: class_logits have {outputs} columns; expected K + 1, the last one "no object"')
    _check_masks(where, masks, class_logits)
    if 'is_thing' in settings:
        _check_things(where, settings['is_thing'], class_logits)
    _require_finite(where, class_logits, masks)


def check_logits(where: str, class_logits: Tensor, mask_logits: Tensor) -> None:
    """Check the logits of one image on one grid, but not their values; for functions that are called often.

    Args:
        where: name of the function, for messages.
        class_logits: (Q, K + 1) float, K of at least 1.
        mask_logits: (Q, h, w) float, of the same Q queries.

    Raises:
        ValueError: if they are inconsistent.
    """
    if is_recorded():
        return
    for name, tensor, shape in (
        ('class_logits', class_logits, '(Q, K + 1)'),
        ('mask_logits', mask_logits, '(Q, h, w)'),
    ):
        dimensions = shape.count(',') + 1
        if not is_float(tensor) or tensor.ndim != dimensions:
            raise ValueError(f'{where}: {name} are {form_of(tensor)}; expected {shape} float of one image')
    if class_logits.shape[1] < 2:
        raise ValueError(f'{where}: class_logits have {class_logits.shape[1]} columns; expected K + 1, K of at least 1')
    if len(class_logits) != len(mask_logits) or class_logits.device != mask_logits.device:
        raise ValueError(
            f'{where}: found class_logits {form_of(class_logits)} and mask_logits {form_of(mask_logits)}; expected '
            'those of the same queries, on one device'
        )


def _check_things(where: str, is_thing: Tensor, class_logits: Tensor) -> None:
    num_classes = class_logits.shape[1] - 1
    if not isinstance(is_thing, Tensor) or is_thing.dtype != torch.bool or is_thing.shape != (num_classes,):
        raise ValueError(f'{where}: is_thing is {form_of(is_thing)}; expected ({num_classes},) bool, one per class')
    if is_thing.device != class_logits.device:
        raise ValueError(f'{where}: is_thing is on {is_thing.device}; expected {class_logits.device} as class_logits')


def _check_masks(where: str, masks: QueryMasks, class_logits: Tensor) -> None:
    if not isinstance(masks, QueryMasks):
        raise ValueError(f'{where}: masks are a {type(masks).__name__}; expected QueryMasks. Fix: QueryMasks.of_logits')
    given = {key: getattr(masks, key) for key in ('input_size', 'image_size', 'out_size', 'flipped')}
    check_settings(where, given, dict.fromkeys(given, SIZE) | {'flipped': BOOLEAN})
    check_masks(where, masks.masks)
    queries, like = len(class_logits), masks.like
    if like.device != class_logits.device:
        raise ValueError(f'{where}: masks are on {like.device}; expected {class_logits.device} as class_logits')
    if like.shape[0] != 1 or masks.masks.num_queries != queries:
        raise ValueError(
            f'{where}: found masks of {masks.masks.num_queries} queries of {like.shape[0]} images for {queries} rows '
            'of class_logits; expected those of the same queries of one image. Fix: masks.of_image(image)'
        )
    if 0 in masks.masks.size or any(a > b for a, b in zip(masks.image_size, masks.input_size, strict=True)):
        raise ValueError(
            f'{where}: found masks on a grid of {tuple(masks.masks.size)} for an image of {tuple(masks.image_size)} '
            f'within an input of {tuple(masks.input_size)}; expected an image that lies within its padded input'
        )


def _require_finite(where: str, class_logits: Tensor, masks: QueryMasks) -> None:
    # -inf is a probability of 0, which is valid unless a query has no other value
    parts = {'class logits': at_least_float32(class_logits).softmax(-1), **masks.masks.parts(0)}
    # a sum is several times faster than `isfinite` of all
    sums = [part.sum(dtype=torch.promote_types(part.dtype, torch.float32)).double() for part in parts.values()]
    finite = torch.stack(sums).isfinite().tolist()
    wrong = [name for name, good in zip(parts, finite, strict=True) if not good]
    if wrong:
        raise NonFiniteLogitsError(
            f'{where}: inf or NaN in {" and ".join(wrong)}: any result would be random. Fix: look for inf or NaN in '
            'the image and in the weights; with float16, predict with bfloat16 or float32'
        )
