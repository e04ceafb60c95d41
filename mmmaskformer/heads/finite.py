"""Predictions that are inf or NaN are refused, with image and file."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmmaskformer.core.masks import Masks, Plain
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.torch_versions import is_compiling
from mmmaskformer.core.training.matcher import NonFiniteLogitsError


@torch.no_grad()
def require_finite(prediction: MaskPrediction | Masks, metas: Sequence[Mapping]) -> None:
    """Check the logits of a batch; labels found from NaN look like any others.

    All class logits are looked at, and the mask logits of one query per image: a NaN in the mask features shows in
    those of every query. Mask logits that a network computes itself are all looked at. Of masks alone, everything they
    are made of is looked at. Synchronises with a GPU once per batch.

    Args:
        prediction: of the last layer; of a per-pixel model, its masks.
        metas: meta information of the B samples; may be shorter, or know no file.

    Raises:
        NonFiniteLogitsError: naming the images and their files.
    """
    if torch.jit.is_tracing() or is_compiling():
        return
    sums = _sums(prediction) if isinstance(prediction, MaskPrediction) else _sums_of_masks(prediction)
    if not sums:
        return
    finite = torch.stack(sums).isfinite().tolist()
    wrong = [image for image, good in enumerate(finite) if not good]
    if wrong:
        named = ', '.join(f'image {image} of the batch ({file_of(metas, image)})' for image in wrong)
        raise NonFiniteLogitsError(
            f'the logits of {named} are inf or NaN: any labels would be random. Fix: look for inf or NaN in that file '
            'and in the weights; with float16, predict with bfloat16 or float32.'
        )


def _sums(prediction: MaskPrediction) -> list[Tensor]:
    first = torch.zeros(1, dtype=torch.long, device=prediction.class_logits.device)
    queries = None if isinstance(prediction.masks, Plain) else first
    return [
        logits.sum(dtype=torch.float32) + prediction.mask_logits(image, queries).sum(dtype=torch.float32)
        for image, logits in enumerate(prediction.class_logits)
    ]


def _sums_of_masks(masks: Masks) -> list[Tensor]:
    parts = [masks.parts(image).values() for image in range(len(masks.like))]
    return [torch.stack([part.sum(dtype=torch.float32) for part in of_image]).sum() for of_image in parts]


def file_of(metas: Sequence[Mapping], image: int) -> str:
    """File of an image of a batch, as far as the meta information of the samples knows it."""
    meta = metas[image] if image < len(metas) else {}
    return str(meta.get('img_path') or meta.get('seg_map_path') or 'file not known')
