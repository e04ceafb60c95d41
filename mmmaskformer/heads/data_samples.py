"""The hosts' data samples to core types; the only file that knows their fields."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.core.targets import LabelRangeError, semantic_targets


def targets_from_seg_samples(samples: Sequence, *, num_classes: int, ignore_index: int) -> list[MaskTarget]:
    """Segments of MMSegmentation's samples: one per class present.

    Args:
        samples: B `SegDataSample`, ``gt_sem_seg.data`` (1, H, W) integer, all padded to one size.
        num_classes: K.
        ignore_index: label of ignored pixels.

    Returns:
        B targets.

    Raises:
        ValueError: if a label is outside the class list, naming the label file.
        KeyError: if a sample has no ground truth.
    """
    for sample in samples:
        if 'gt_sem_seg' not in sample:
            raise KeyError(
                f"{_file_of(sample)}: the data sample has no 'gt_sem_seg'. Fix: put an annotation loader "
                "(type='mmmaskformer.LoadSegAnnotations') in the training pipeline, before PackSegInputs."
            )
    label_maps = torch.cat([sample.gt_sem_seg.data for sample in samples])
    try:
        return semantic_targets(label_maps, num_classes=num_classes, ignore_index=ignore_index)
    except LabelRangeError as error:
        raise ValueError(f'{_file_of(samples[error.image])}: {error}') from None


def input_size(metas: Sequence[dict], finest: Tensor, stride: int, *, sliding: bool) -> tuple[int, int]:
    """Height and width of the padded network input that the features belong to.

    Sliding inference writes the size of each window into ``metas[0]['img_shape']`` and nowhere else; whole inference
    leaves the un-padded size there and the padded one in ``pad_shape``.

    Args:
        metas: meta information of the samples of the batch.
        finest: (B, C, h, w) the finest feature.
        stride: its stride, in input pixels.
        sliding: whether the batch is a window.

    Returns:
        (H, W); the features' size times the stride if ``metas`` tells no size.

    Raises:
        ValueError: if no size in ``metas`` fits the features.
    """
    keys = ('img_shape', 'pad_shape') if sliding else ('pad_shape', 'img_shape')
    sizes = [tuple(metas[0][key][:2]) for key in keys if metas and metas[0].get(key) is not None]
    if not sizes:
        return finest.shape[-2] * stride, finest.shape[-1] * stride
    return require_stride(finest, stride, sizes)


def require_stride(finest: Tensor, stride: int, input_sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The first input size that the finest feature fits.

    Args:
        finest: (B, C, h, w).
        stride: what the head takes for its stride.
        input_sizes: candidates (H, W).

    Raises:
        ValueError: if none fits, with the stride that would.
    """
    feature_size = tuple(finest.shape[-2:])
    for size in input_sizes:
        if all(-(-side // stride) == length for side, length in zip(size, feature_size, strict=True)):
            return int(size[0]), int(size[1])
    found = round(input_sizes[0][0] / feature_size[0])
    raise ValueError(
        f'the finest feature of the backbone is {feature_size} for an input of {tuple(input_sizes[0])}, a stride of '
        f'about {found}; the head has feature_strides[0]={stride}. Fix: set model.decode_head.feature_strides to the '
        "strides of the backbone, or choose other features with the backbone's out_indices."
    )


def _file_of(sample) -> str:
    meta = sample.metainfo
    return str(meta.get('seg_map_path') or meta.get('img_path') or 'data sample without a path')
