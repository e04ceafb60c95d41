"""The training loss of mask classification over all decoder layers."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmmaskformer.core.folding import multiply_out_images
from mmmaskformer.core.losses import at_least_float32, check_mask_loss, class_loss
from mmmaskformer.core.mask_loss import matched_mask_losses
from mmmaskformer.core.structures import MaskPrediction, MaskTarget, Matches


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
        matches = self.matcher(predictions, targets)
        normaliser = mean_num_segments(targets, predictions[0].class_logits.device)
        with torch.autocast(predictions[0].class_logits.device.type, enabled=False):
            mask, dice = self._mask_losses(predictions, targets, matches)
            losses = {}
            for layer, prediction in enumerate(predictions):
                prefix = '' if layer == len(predictions) - 1 else f'd{layer}.'
                classes = self._classes(prediction, targets, matches[layer])
                loss = class_loss(prediction.class_logits.flatten(0, 1), classes, self.no_object_weight)
                losses[f'{prefix}loss_cls'] = self.class_weight * loss
                losses[f'{prefix}loss_mask'] = self.mask_weight * mask[layer] / normaliser
                losses[f'{prefix}loss_dice'] = self.dice_weight * dice[layer] / normaliser
        return losses

    def _classes(
        self, prediction: MaskPrediction, targets: Sequence[MaskTarget], matches: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Class (B * Q,) every query has to learn, K where it is not matched."""
        classes = torch.full(prediction.class_logits.shape[:2], self.num_classes, device=prediction.class_logits.device)
        for image, (query_idx, target_idx) in enumerate(matches):
            classes[image, query_idx] = targets[image].labels[target_idx]
        return classes.flatten()

    def _mask_losses(
        self, predictions: Sequence[MaskPrediction], targets: Sequence[MaskTarget], matches: Matches
    ) -> tuple[Tensor, Tensor]:
        """Mask and dice loss (L,) of the layers, summed over matched pairs; only matched queries are multiplied."""
        pairs = [[layer[image] for layer in matches] for image in range(len(targets))]
        embeds = [
            torch.cat([p.mask_embed[image, query_idx] for p, (query_idx, _) in zip(predictions, of_image, strict=True)])
            for image, of_image in enumerate(pairs)
        ]
        # An image without pairs makes an empty product: the mask branch still gets a gradient, of zeros, without
        # which distributed training would stop at unused parameters.
        logits = multiply_out_images(
            [at_least_float32(embed) for embed in embeds], predictions[0].mask_features, predictions[0].last_conv
        )
        losses = [
            matched_mask_losses(
                logits[image], target, torch.cat([target_idx for _, target_idx in pairs[image]]), self.mask_loss
            )
            for image, target in enumerate(targets)
        ]
        mask, dice = (torch.cat(parts) for parts in zip(*losses, strict=True))
        counts = [len(query_idx) for of_image in pairs for query_idx, _ in of_image]
        layer = torch.arange(len(predictions)).repeat(len(targets)).repeat_interleave(torch.tensor(counts))
        layer = layer.to(mask.device)
        zero = mask.new_zeros(len(predictions))
        return zero.index_add(0, layer, mask), zero.index_add(0, layer, dice)


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
