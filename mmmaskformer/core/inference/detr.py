"""Panoptic inference as in DETR: the row "MaskFormer (DETR)" of the paper's table."""

import torch
from torch import Tensor

from mmmaskformer.core.inference.checks import checked_inference
from mmmaskformer.core.inference.panoptic import count_pixels, nothing_found, segment_groups
from mmmaskformer.core.inference.queries import assign_pixels, confident_queries
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.segments import Segments


@checked_inference
def detr_inference(
    class_logits: Tensor, masks: QueryMasks, *, is_thing: Tensor, object_threshold: float = 0.85, min_area: int = 5
) -> Segments[Tensor]:
    """Panoptic segmentation of one image by a softmax of the mask logits over the confident queries.

    Every pixel is assigned to the confident query with the largest mask logit, regardless of class probabilities, and
    nothing is void. Stuff queries of one class are joined. Queries with too few pixels are removed and their pixels
    reassigned, until all are large enough.

    Differs from DETR's code: the masks are compared at the output size, not sampled from the input size; without a
    confident query the result is void, not one segment of class 1.

    Args:
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries.
        is_thing: (K,) bool.
        object_threshold: class probabilities must be above it.
        min_area: smallest number of pixels of a segment; 0 keeps segments without pixels.

    Returns:
        Segments in query order, ids int32.

    Raises:
        ValueError: if arguments are inconsistent; NonFiniteLogitsError, if logits are inf or NaN.

    Source: paper, section 4.3 (comparison of inference); Carion et al., DETR, PostProcessPanoptic.
    """
    query_idx, labels, scores = confident_queries(class_logits, object_threshold)
    group = segment_groups(labels, is_thing)
    # Joined once, at the start: queries that were joined into others are then empty and, unless min_area is 0, removed.
    joined = (group[:, None] == group).to(torch.uint8).argmax(1) if len(labels) else group
    while len(query_idx):
        winner = joined[assign_pixels(masks, query_idx, None)[0]]
        enough = count_pixels(winner, len(query_idx)) >= min_area
        if enough.all():
            return Segments((winner + 1).to(torch.int32), labels, scores)
        query_idx, labels, scores = query_idx[enough], labels[enough], scores[enough]
        joined = torch.arange(len(query_idx), device=labels.device)
    return nothing_found(masks.out_size, scores)
