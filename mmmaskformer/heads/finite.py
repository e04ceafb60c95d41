"""Predictions with inf or NaN raise an error that names image and file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from mmmaskformer.core.masks import Masks, Plain
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.torch_versions import is_recorded


@torch.no_grad()
def begin_finite_check(prediction: MaskPrediction | Masks, metas: Sequence[Mapping]) -> Callable[[], None]:
    """Begin to check the logits of a batch, since labels computed from NaN look valid.

    The check reads all class logits, and all tensors from which the mask logits are computed, once. In float16, where
    finite factors may have an infinite product, the mask logits are multiplied out, image by image.

    On a GPU the check runs in parallel with the caller, and its result is copied to the host asynchronously. It has
    arrived when the caller waits for the results of an image, so the check adds no synchronisation.

    Args:
        prediction: prediction of the last layer; masks of a per-pixel model.
        metas: meta information of the B samples; may be shorter, or lack file names.

    Returns:
        A function that completes the check. It raises a `NonFiniteLogitsError` that names images and files if logits
        are inf or NaN.
    """
    if is_recorded():
        return _nothing
    sums = _sums(prediction) if isinstance(prediction, MaskPrediction) else _sums_of_masks(prediction)
    if not sums:
        return _nothing
    finite = torch.stack(sums).isfinite()
    if not finite.is_cuda:
        return partial(_refuse, finite, None, metas)
    # torch copies to pinned memory, which is not valid on the host before the event
    return partial(_refuse, finite.to('cpu', non_blocking=True), torch.cuda.current_stream().record_event(), metas)


def _tolist(finite: Tensor) -> list[bool]:
    """Values (B,) on the host; empty for the fake tensors of tests, which count synchronisations with a GPU."""
    return finite.tolist()


def _nothing() -> None:
    """Completes a check that is not needed."""


def _refuse(finite: Tensor, copied: torch.cuda.Event | None, metas: Sequence[Mapping]) -> None:
    """Raise a `NonFiniteLogitsError` that names the images that are not finite (B,) bool."""
    if copied is not None:
        copied.synchronize()
    wrong = [image for image, good in enumerate(_tolist(finite)) if not good]
    if wrong:
        named = ', '.join(f'image {image} of the batch ({file_of(metas, image)})' for image in wrong)
        raise NonFiniteLogitsError(
            f'the logits of {named} are inf or NaN: any labels would be random. Fix: look for inf or NaN in that file '
            'and in the weights; with float16, predict with bfloat16 or float32.'
        )


def _sums(prediction: MaskPrediction) -> list[Tensor]:
    """Sums (B) that are finite if the logits are finite."""
    masks, class_logits = prediction.masks, prediction.class_logits
    if not isinstance(masks, Plain) and masks.like.dtype != torch.float16:
        of_masks = _sums_of_masks(masks)
    else:
        # in float16 factors may be finite and their product not, for some queries only
        of_masks = [masks.logits(image).sum(dtype=torch.float32) for image in range(len(class_logits))]
    return [logits.sum(dtype=torch.float32) + of_mask for logits, of_mask in zip(class_logits, of_masks, strict=True)]


def _sums_of_masks(masks: Masks) -> list[Tensor]:
    """Sums (B) that are finite if all tensors are finite from which the mask logits are computed."""
    parts = [masks.parts(image).values() for image in range(len(masks.like))]
    return [torch.stack([part.sum(dtype=torch.float32) for part in of_image]).sum() for of_image in parts]


def file_of(metas: Sequence[Mapping], image: int) -> str:
    """File of an image of a batch, if the meta information of the samples contains it."""
    meta = metas[image] if image < len(metas) else {}
    return str(meta.get('img_path') or meta.get('seg_map_path') or 'file not known')
