"""Panoptic inference as DETR does it: the row "MaskFormer (DETR)" of the paper's table."""

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
    """Panoptic segmentation of one image by a soft-max of the mask logits over the confident queries.

    Every pixel goes to the confident query with the largest mask logit, however small; class probabilities play no
    part in that, and nothing is void. Stuff queries of one class are joined; queries that are left with too few pixels
    are removed and their pixels reassigned, until none is.

    Differs from DETR's code: the masks are compared at the output size, not at the input size and then sampled; where
    no query is confident the result is void, not one segment of class 1.

    Args:
        class_logits: (Q, K + 1) float.
        masks: of the same Q queries.
        is_thing: (K,) bool.
        object_threshold: class probabilities must be above it.
        min_area: pixels that a segment needs.

    Returns:
        Segments in query order, ids int32.

    Raises:
        ValueError: if arguments do not fit together; NonFiniteLogitsError, if logits are inf or NaN.

    Source: paper, section 4.3 (comparison of inference); Carion et al., DETR, PostProcessPanoptic.
    """
    query_idx, labels, scores = confident_queries(class_logits, object_threshold)
    group = segment_groups(labels, is_thing)
    # Joined once, at the start: the queries that gave their pixels away are then empty and taken out.
    joined = (group[:, None] == group).to(torch.uint8).argmax(1) if len(labels) else group
    while len(query_idx):
        winner = joined[assign_pixels(masks, query_idx, None)[0]]
        enough = count_pixels(winner, len(query_idx)) >= min_area
        if enough.all():
            return Segments((winner + 1).to(torch.int32), labels, scores)
        query_idx, labels, scores = query_idx[enough], labels[enough], scores[enough]
        joined = torch.arange(len(query_idx), device=labels.device)
    return nothing_found(masks.out_size, scores)
