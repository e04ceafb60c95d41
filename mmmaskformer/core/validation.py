"""Checks of what parts of another project hand to the core; what they refuse would train or infer something else.

Nothing here synchronises with a GPU: values of tensors are read on the CPU only.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def require_queries(layer: int, class_logits: Tensor, num_masks: int, batch: int) -> None:
    """Check that a prediction has one mask per query.

    Args:
        layer: of the prediction, for the message.
        class_logits: (B, Q, K + 1).
        num_masks: queries of its masks.
        batch: images of its masks.

    Raises:
        ValueError: if there are other numbers of masks.
    """
    if class_logits.dim() != 3 or tuple(class_logits.shape[:2]) != (batch, num_masks):
        raise ValueError(
            f'prediction of layer {layer + 1}: class_logits are {tuple(class_logits.shape)} and the masks are of '
            f'{batch} images with {num_masks} queries each; expected class_logits ({batch}, {num_masks}, K + 1)'
        )


def require_segments(image: int, labels: Tensor, segment_map: Tensor | None, masks: Tensor | None) -> None:
    """Check that a target has one label per segment.

    Args:
        image: of the target, for the message.
        labels: (M,) integer.
        segment_map: (H, W) integer, or None.
        masks: (M, H, W) bool, or None; one of the two is given.

    Raises:
        ValueError: if both or neither are given, a map has an index of M or above, or the masks are not M.
        TypeError: if a map is not integer or masks are not bool.
    """
    where, count = f'target {image} of the batch', len(labels)
    if (segment_map is None) == (masks is None):
        raise ValueError(
            f'{where} has {"neither" if masks is None else "both"} segment_map and masks; expected one of them. '
            'Fix: give overlapping segments as masks, all others as a segment_map'
        )
    if masks is not None:
        if masks.dtype != torch.bool:
            raise TypeError(f'{where}: masks are {masks.dtype}; expected torch.bool. Fix: masks > 0')
        if len(masks) != count:
            raise ValueError(f'{where}: found {count} labels and {len(masks)} masks; expected one mask per label')
    if segment_map is not None:
        if segment_map.is_floating_point() or segment_map.dtype == torch.bool:
            raise TypeError(f'{where}: segment_map is {segment_map.dtype}; expected integer indices of segments')
        if segment_map.device.type == 'cpu' and segment_map.numel() and (highest := int(segment_map.max())) >= count:
            raise ValueError(
                f'{where}: segment_map holds the index {highest}, but there are {count} labels; expected indices below '
                f'{count}. Fix: pixels without a segment are NO_SEGMENT (-1), ignored ones IGNORED (-2)'
            )


def ordered_matches(
    columns: Sequence[np.ndarray], num_layers: int, num_queries: int, counts: Sequence[int], matcher: str
) -> list[np.ndarray]:
    """The columns of `Matches` by image, then layer, then query, in whatever order a matcher gives its pairs.

    Args:
        columns: layer, image, query and segment, (N,) integer each.
        num_layers: L.
        num_queries: Q.
        counts: numbers of segments of the B images.
        matcher: name of its class, for messages.

    Raises:
        ValueError: if a pair names a layer, image, query or segment that there is not, or a query is matched twice.
    """
    layer, image, query, segment = (np.asarray(column, np.int64) for column in columns)
    known = (image >= 0) & (image < len(counts))
    limits = (
        ('layer', layer, num_layers),
        ('image', image, len(counts)),
        ('query', query, num_queries),
        ('segment', segment, np.array(counts, np.int64)[np.where(known, image, 0)] if len(counts) else 0),
    )
    for name, column, limit in limits:
        wrong = np.flatnonzero((column < 0) | (column >= limit))
        if len(wrong):
            first = wrong[0]
            raise ValueError(
                f'{matcher} matched {name} {column[first]} (layer {layer[first]}, image {image[first]} of the batch); '
                f'expected 0 to {np.broadcast_to(limit, column.shape)[first] - 1}'
            )
    order = np.lexsort((query, layer, image))
    layer, image, query, segment = (column[order] for column in (layer, image, query, segment))
    twice = np.flatnonzero((np.diff(layer) == 0) & (np.diff(image) == 0) & (np.diff(query) == 0))
    if len(twice):
        first = twice[0]
        raise ValueError(
            f'{matcher} matched query {query[first]} of layer {layer[first]}, image {image[first]} of the batch, to '
            f'segments {segment[first]} and {segment[first + 1]}; expected at most one segment per query'
        )
    return [layer, image, query, segment]
