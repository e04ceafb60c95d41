"""Conversion of ground truth to `Targets`."""

import torch
from torch import Tensor

from mmmaskformer.core.checks import check_settings, whole
from mmmaskformer.core.shapes import form_of, is_integer
from mmmaskformer.core.structures import IGNORED, NO_SEGMENT, MaskTarget, Targets

SETTINGS = {'num_classes': whole(1), 'ignore_index': whole()}


class LabelRangeError(ValueError):
    """A label map holds ids that are neither a class nor the ignore label.

    Args:
        image: position of the image in the batch.
        found: the offending ids, ascending.
        num_classes: K.
        ignore_index: id of ignored pixels.

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

    The host must know the number of segments; one copy from the device is made for the whole batch.

    Args:
        label_maps: (B, H, W) integer class ids on any device.
        num_classes: K.
        ignore_index: id of ignored pixels; may be any value outside [0, K), K itself included.

    Returns:
        The batch with ``segment_maps`` (B, H, W) int16, or int32 if classes are too many for it.

    Raises:
        ValueError: if the maps are not (B, H, W) integer, or ``ignore_index`` is a class.
        LabelRangeError: if an id is neither in [0, K) nor ``ignore_index``.

    Source: paper, section 3.2; official code, MaskFormerSemanticDatasetMapper.
    """
    check_settings('semantic_targets', dict(num_classes=num_classes, ignore_index=ignore_index), SETTINGS)
    if (
        not isinstance(label_maps, Tensor)
        or label_maps.ndim != 3
        or not label_maps.numel()
        or not is_integer(label_maps)
    ):
        is_tensor = isinstance(label_maps, Tensor)
        given = f'{label_maps.dtype} {tuple(label_maps.shape)}' if is_tensor else form_of(label_maps)
        raise ValueError(
            f'label_maps are {given}; expected integer class ids (B, H, W) of at least one pixel. Fix: '
            'label_maps.long()'
        )
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f'ignore_index={ignore_index} is one of the {num_classes} classes; expected a value outside [0, '
            f'{num_classes}). Fix: ignore_index={num_classes if num_classes < 255 else 65535}, in the label files too'
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
        labels: (N,) integer class of each instance.
        masks: (N, H, W) bool.
        label_map: (H, W) integer class ids; None if there is no stuff to learn. Pixels of things and of ids outside
            [0, K) belong to no segment.
        is_thing: (K,) bool, required with ``label_map``.
        ignored: (H, W) bool, pixels that are not labelled; None if there are none.

    Returns:
        One target with ``masks``: the instances in their order, then one segment per stuff class present, classes
        ascending.

    Raises:
        ValueError: if labels and masks differ in number or have the wrong dtype, or the label map has another size or
            comes without ``is_thing``.

    Source: paper, section 3.2; the same targets as MMDetection's preprocess_panoptic_gt.
    """
    if len(labels) != len(masks):
        raise ValueError(f'found {len(labels)} instance labels and {len(masks)} masks; expected one mask per label')
    if masks.ndim != 3 or masks.dtype != torch.bool or labels.ndim != 1 or not is_integer(labels):
        raise ValueError(
            f'found labels {tuple(labels.shape)} {labels.dtype} and masks {tuple(masks.shape)} {masks.dtype}; expected '
            '(N,) integer and (N, H, W) bool'
        )
    if label_map is None:
        return MaskTarget(labels, masks=masks, ignored=ignored)
    if label_map.shape != masks.shape[1:]:
        raise ValueError(
            f'the label map is {tuple(label_map.shape)} and the instance masks are {tuple(masks.shape[1:])}; expected '
            'one size. Fix: use only transforms that transform both'
        )
    if is_thing is None:
        raise ValueError('is_thing is None, but there is a label_map; expected (K,) bool. Fix: pass both or neither')
    if not is_integer(label_map) or is_thing.dtype != torch.bool or is_thing.ndim != 1:
        raise ValueError(
            f'found a label map of {label_map.dtype} and is_thing {tuple(is_thing.shape)} {is_thing.dtype}; expected '
            'integer class ids and (K,) bool'
        )
    present = label_map.unique().long()
    present = present[(present >= 0) & (present < len(is_thing))]
    stuff = present[~is_thing[present]]
    stuff_masks = label_map == stuff.to(label_map.dtype)[:, None, None]
    return MaskTarget(torch.cat([labels, stuff]), masks=torch.cat([masks, stuff_masks]), ignored=ignored)


def check_segments(targets: Targets, num_classes: int) -> None:
    """Check that labels are classes, and that maps hold no index without a label.

    Only targets on the host are checked, since a GPU would have to synchronise. For targets on a GPU, the matcher
    checks the labels in the copy of its costs.

    Args:
        targets: targets of a batch.
        num_classes: K.

    Raises:
        ValueError: if a label or index is invalid.
    """
    maps = targets.segment_maps
    if targets.labels.device.type == 'cpu':
        check_labels(targets.labels, num_classes)
    if maps is not None and maps.device.type == 'cpu':
        lowest, highest = (found.tolist() for found in (maps.amin((1, 2)), maps.amax((1, 2))))
        for image, (low, high, count) in enumerate(zip(lowest, highest, targets.counts, strict=True)):
            if high >= count or low < IGNORED:
                wrong = high if high >= count else low
                raise ValueError(
                    f'target {image} of the batch: segment_map holds index {wrong}, but there are {count} labels; '
                    f'expected indices below {count}, {NO_SEGMENT} or {IGNORED}'
                )


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Check that labels (N,) are classes; synchronises with a GPU.

    Raises:
        ValueError: if one is not in [0, K).
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        found = sorted({label for label in labels.tolist() if not 0 <= label < num_classes})
        raise ValueError(
            f'labels {found} of true segments are outside the class list; expected 0 to {num_classes - 1}. '
            'Fix: set num_classes to the number of classes'
        )
