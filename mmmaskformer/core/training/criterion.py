"""The training loss of mask classification over all decoder layers."""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmmaskformer.core.folding import multiply_out_images
from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Matches
from mmmaskformer.core.training.losses import check_mask_loss, class_loss
from mmmaskformer.core.training.mask_loss import batch_mask_losses


class FlatPairs(NamedTuple):
    """All matched pairs of a batch, image after image, and layer after layer within an image.

    Attributes:
        counts: of each image.
        layer: (N,) int64.
        query: (N,) int64, position among the queries of all layers and images, (L, B, Q) flattened.
        target_idx: (N,) int64, the segment, counted within its image.
        labels: (N,) int64 class of the segment.
    """

    counts: list[int]
    layer: Tensor
    query: Tensor
    target_idx: Tensor
    labels: Tensor


class SetCriterion(nn.Module):
    """Matches every layer and sums classification, mask and dice loss.

    Mask losses are sums over matched pairs divided by the number of true segments (matched or not), averaged over
    ranks, at least 1. Ignored and padded pixels count as background of every mask, as published.

    Args:
        num_classes: K.
        matcher: maps predictions and targets to `Matches`.
        class_weight: weight of the classification loss.
        mask_weight: weight of the mask loss per pixel.
        dice_weight: weight of the dice loss.
        no_object_weight: weight of "no object" in the classification loss.
        mask_loss: 'focal', as published, or 'bce' for binary cross-entropy; the matcher has a setting of its own.

    Raises:
        ValueError: if ``mask_loss`` is unknown.

    Source: paper, sections 3.2 and 4.1; official code, SetCriterion.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        matcher: nn.Module,
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
        mask_loss: str = 'focal',
    ):
        super().__init__()
        check_mask_loss(mask_loss)
        self.num_classes = num_classes
        self.matcher = matcher
        self.class_weight = class_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.no_object_weight = no_object_weight
        self.mask_loss = mask_loss

    def forward(self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTarget]) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            predictions: L predictions of a batch of B, the last one final.
            targets: B targets at the network's input size (padded where the image is).

        Returns:
            Scalars ``loss_cls``, ``loss_mask``, ``loss_dice`` of the final layer and ``d0.loss_cls`` … of the
            earlier ones, first layer first; weighted, float32 or float64. Their sum is the training loss.

        Raises:
            NonFiniteLogitsError: if logits are inf or NaN.
        """
        pairs = flat_pairs(self.matcher(predictions, targets), targets, predictions[0].num_queries)
        normaliser = mean_num_segments(targets, predictions[0].class_logits.device)
        with torch.autocast(predictions[0].class_logits.device.type, enabled=False):
            mask, dice = self._mask_losses(predictions, targets, pairs)
            by_kind = {
                'cls': self.class_weight * self._class_losses(predictions, pairs),
                'mask': self.mask_weight * mask / normaliser,
                'dice': self.dice_weight * dice / normaliser,
            }
        prefixes = [*(f'd{layer}.' for layer in range(len(predictions) - 1)), '']
        return {
            f'{prefix}loss_{kind}': losses[layer]
            for layer, prefix in enumerate(prefixes)
            for kind, losses in by_kind.items()
        }

    def _class_losses(self, predictions: Sequence[MaskPrediction], pairs: FlatPairs) -> Tensor:
        """Classification loss (L,) of the layers; queries that are not matched have to learn "no object"."""
        class_logits = torch.stack([prediction.class_logits for prediction in predictions]).flatten(1, 2)
        classes = torch.full(class_logits.shape[:2], self.num_classes, device=class_logits.device)
        classes.view(-1).scatter_(0, pairs.query, pairs.labels)
        return class_loss(class_logits, classes, self.no_object_weight)

    def _mask_losses(
        self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTarget], pairs: FlatPairs
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss (L,) of the layers, summed over matched pairs; only matched queries are multiplied."""
        embed = torch.stack([prediction.mask_embed for prediction in predictions]).flatten(0, 2)
        embed = at_least_float32(embed.index_select(0, pairs.query))
        # An image without pairs makes an empty product: the mask branch still gets a gradient, of zeros, without
        # which distributed training would stop at unused parameters.
        logits = multiply_out_images(embed, pairs.counts, predictions[0].mask_features, predictions[0].last_conv)
        mask, dice = batch_mask_losses(logits, targets, pairs.counts, pairs.target_idx, self.mask_loss)
        zero = mask.new_zeros(len(predictions))
        return zero.index_add(0, pairs.layer, mask), zero.index_add(0, pairs.layer, dice)


def flat_pairs(matches: Matches, targets: Sequence[MaskTarget], num_queries: int) -> FlatPairs:
    """Bring the matches of all layers and images together; nothing is copied from a GPU.

    Args:
        matches: of L layers and B images.
        targets: B targets.
        num_queries: Q.
    """
    images, layers = range(len(targets)), range(len(matches))
    pairs = [matches[layer][image] for image in images for layer in layers]
    # Of each pair: layer, index of its image's first query in this layer, index of its image's first label.
    starts = [0, *accumulate(target.num_segments for target in targets)]
    table = torch.tensor(
        [(layer, (layer * len(images) + image) * num_queries, starts[image]) for image in images for layer in layers]
    )
    sizes = [len(query_idx) for query_idx, _ in pairs]
    labels = torch.cat([target.labels for target in targets])
    table = table.repeat_interleave(torch.tensor(sizes), 0, output_size=sum(sizes))
    table = table.to(labels.device, non_blocking=True)
    layer, first_query, first_label = table.unbind(1)
    query_idx, target_idx = (torch.cat(index) for index in zip(*pairs, strict=True))
    counts = [sum(sizes[image * len(layers) : (image + 1) * len(layers)]) for image in images]
    return FlatPairs(counts, layer, first_query + query_idx, target_idx, labels[first_label + target_idx])


def mean_num_segments(targets: Sequence[MaskTarget], device: torch.device) -> Tensor | float:
    """Number of true segments of the batch, averaged over ranks, at least 1.

    Args:
        targets: this rank's targets.
        device: where the ranks exchange the count.
    """
    count = float(sum(target.num_segments for target in targets))
    if not (dist.is_available() and dist.is_initialized()):
        return max(count, 1.0)
    total = torch.tensor(count, device=device)
    dist.all_reduce(total)
    return (total / dist.get_world_size()).clamp(min=1)
