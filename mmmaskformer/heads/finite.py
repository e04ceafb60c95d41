"""Predictions that are inf or NaN are refused, with image and file."""

from collections.abc import Mapping, Sequence

import torch

from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.torch_versions import is_compiling
from mmmaskformer.core.training.matcher import NonFiniteLogitsError


@torch.no_grad()
def require_finite(prediction: MaskPrediction, metas: Sequence[Mapping]) -> None:
    """Check the logits of a batch; labels found from NaN look like any others.

    All class logits are looked at, and the mask logits of one query per image: a NaN in the mask features shows in
    those of every query. A GPU is waited for once per batch.

    Args:
        prediction: of the last layer.
        metas: meta information of the B samples; may be shorter, or know no file.

    Raises:
        NonFiniteLogitsError: naming the images and their files.
    """
    if torch.jit.is_tracing() or is_compiling():
        return
    class_logits = prediction.class_logits
    first = torch.zeros(1, dtype=torch.long, device=class_logits.device)
    sums = [
        logits.sum(dtype=torch.float32) + prediction.mask_logits(image, first).sum(dtype=torch.float32)
        for image, logits in enumerate(class_logits)
    ]
    if not sums:
        return
    finite = torch.stack(sums).isfinite().tolist()
    wrong = [image for image, good in enumerate(finite) if not good]
    if wrong:
        named = ', '.join(f'image {image} of the batch ({file_of(metas, image)})' for image in wrong)
        raise NonFiniteLogitsError(
            f'the logits of {named} are inf or NaN: any labels would be chance. Fix: look for inf or NaN in that file '
            'and in the weights; with float16, predict with bfloat16 or float32.'
        )


def file_of(metas: Sequence[Mapping], image: int) -> str:
    """File of an image of a batch, as far as the meta information of the samples knows it."""
    meta = metas[image] if image < len(metas) else {}
    return str(meta.get('img_path') or meta.get('seg_map_path') or 'file not known')
