"""Ground truth to `Targets`."""

import torch
from torch import Tensor

from mmmaskformer.core.structures import IGNORED, MaskTarget, Targets


class LabelRangeError(ValueError):
    """A label map holds ids that are neither a class nor the ignore label.

    Attributes:
        image: position of the image in the batch.
        found: the offending ids, ascending.
    """

    def __init__(self, image: int, found: list[int], num_classes: int, ignore_index: int):
        self.image = image
        self.found = found
        super().__init__(
            f'label ids {found} are outside the class list; expected 0 to {num_classes - 1}, or {ignore_index} for '
            f'ignored pixels. Fix: set num_classes to the number of classes, or remap these ids in the label files '
            f'(reduce_zero_label=True if ids start at 1 and 0 means unlabelled).'
        )


def semantic_targets(label_maps: Tensor, *, num_classes: int, ignore_index: int = 255) -> Targets:
    """One segment per class that occurs in an image, classes ascending; connected components are not split.

    The number of segments must be known to the host: one copy serves the batch.

    Args:
        label_maps: (B, H, W) integer class ids on any device.
        num_classes: K.
        ignore_index: id of ignored pixels; may be any value outside [0, K), K itself included.

    Returns:
        The batch with ``segment_maps`` (B, H, W) int16, or int32 if classes are too many for it.

    Raises:
        TypeError: if the maps are not integer.
        ValueError: if ``ignore_index`` is a class.
        LabelRangeError: if an id is neither in [0, K) nor ``ignore_index``.

    Source: paper, section 3.2; official code, MaskFormerSemanticDatasetMapper.
    """
    if label_maps.is_floating_point():
        raise TypeError(f'label_maps are {label_maps.dtype}; expected integer class ids. Fix: label_maps.long()')
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f'ignore_index={ignore_index} is one of the {num_classes} classes; expected a value outside of 0 to '
            f'{num_classes - 1}. Fix: ignore_index=65535, with label maps that mark ignored pixels so'
        )
    batch = len(label_maps)
    labels = label_maps.reshape(batch, -1).long()
    # Columns of the table: K classes, then "ignored", then "out of range".
    outside = (labels < 0) | (labels >= num_classes)
    column = torch.where(outside, num_classes + (labels != ignore_index).long(), labels)
    seen = torch.zeros(batch, num_classes + 2, dtype=torch.bool, device=labels.device)
    seen.scatter_(1, column, torch.ones_like(column, dtype=torch.bool))
    present = seen.cpu()
    for image in range(batch):
        if present[image, -1]:
            bad = labels[image][column[image] == num_classes + 1].unique().tolist()
            raise LabelRangeError(image, bad, num_classes, ignore_index)
    seen[:, num_classes:] = False
    dtype = torch.int16 if num_classes < 2**15 else torch.int32
    segment_of = torch.where(seen, seen.cumsum(1) - 1, IGNORED).to(dtype)
    segment_maps = segment_of.gather(1, column).reshape(label_maps.shape)
    found = present[:, :num_classes]
    return Targets(
        found.nonzero()[:, 1].to(labels.device, non_blocking=True), tuple(found.sum(1).tolist()), segment_maps
    )


def instance_targets(
    labels: Tensor,
    masks: Tensor,
    *,
    label_map: Tensor | None = None,
    is_thing: Tensor | None = None,
    ignored: Tensor | None = None,
) -> MaskTarget:
    """Targets from instance masks, which may overlap, and for panoptic training a label map for the stuff.

    Args:
        labels: (N,) int64 class of each instance.
        masks: (N, H, W) bool.
        label_map: (H, W) integer class ids; None if there is no stuff to learn. Pixels of things and of ids outside
            [0, K) give no segment.
        is_thing: (K,) bool, wanted with ``label_map``.
        ignored: (H, W) bool, pixels that are not labelled; None if there are none.

    Returns:
        One target with ``masks``: the instances in their order, then one segment per stuff class present, classes
        ascending.

    Raises:
        ValueError: if labels and masks differ in number, or the label map has another size or no ``is_thing``.

    Source: paper, section 3.2; the same targets as MMDetection's preprocess_panoptic_gt.
    """
    if len(labels) != len(masks):
        raise ValueError(f'found {len(labels)} instance labels and {len(masks)} masks; expected one mask per label')
    if label_map is None:
        return MaskTarget(labels, masks=masks, ignored=ignored)
    if label_map.shape != masks.shape[1:]:
        raise ValueError(
            f'the label map is {tuple(label_map.shape)} and the instance masks are {tuple(masks.shape[1:])}; expected '
            'one size. Fix: let every transform of the pipeline move both'
        )
    if is_thing is None:
        raise ValueError('is_thing is None beside a label_map; expected (K,) bool. Fix: give both or neither')
    present = label_map.unique().long()
    present = present[(present >= 0) & (present < len(is_thing))]
    stuff = present[~is_thing[present]]
    stuff_masks = label_map == stuff.to(label_map.dtype)[:, None, None]
    return MaskTarget(torch.cat([labels, stuff]), masks=torch.cat([masks, stuff_masks]), ignored=ignored)
