"""The hosts' data samples to core types; the only file that knows their fields."""

from collections.abc import Sequence

import torch

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


def input_size(metas: Sequence[dict], feature_size: tuple[int, int], stride: int, *, sliding: bool) -> tuple[int, int]:
    """Height and width of the padded network input that the features belong to.

    Sliding inference writes the size of each window into ``metas[0]['img_shape']`` and nowhere else; whole inference
    leaves the un-padded size there and the padded one in ``pad_shape``.

    Args:
        metas: meta information of the samples of the batch.
        feature_size: (h, w) of the finest feature.
        stride: its stride, in input pixels.
        sliding: whether the batch is a window.

    Returns:
        (H, W). If no meta entry fits the features, the features' size times the stride.
    """
    for key in ('img_shape', 'pad_shape') if sliding else ('pad_shape', 'img_shape'):
        size = metas[0].get(key) if metas else None
        if size is not None and all(-(-side // stride) == h for side, h in zip(size[:2], feature_size, strict=True)):
            return int(size[0]), int(size[1])
    return feature_size[0] * stride, feature_size[1] * stride


def _file_of(sample) -> str:
    meta = sample.metainfo
    return str(meta.get('seg_map_path') or meta.get('img_path') or 'data sample without a path')
