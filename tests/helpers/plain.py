"""A training step written as in the equations: every mask is multiplied out, up-sampled and stored.

It shares only the layers of the model with the package. All gradients come from automatic differentiation, in the dtype
of the model.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def forward(model, features) -> tuple[Tensor, Tensor]:
    """Class logits (L, B, Q, K + 1) and mask logits (L, B, Q, h, w) of a `MaskClassifier` with an `FPNPixelDecoder`."""
    decoder = model.pixel_decoder
    x = decoder.top_conv(features[-1])
    for feature, lateral, output in list(zip(features, decoder.lateral_convs, decoder.output_convs, strict=False))[
        ::-1
    ]:
        x = output(lateral(feature) + F.interpolate(x, size=feature.shape[-2:], mode='nearest'))
    states = torch.stack(model.transformer_decoder(features[-1]))
    mask_logits = torch.einsum('lbqc,bchw->lbqhw', model.mask_embed(states), decoder.mask_conv(x))
    return model.class_embed(states), mask_logits


def focal(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal loss of every element, alpha 0.25 and gamma 2."""
    log_true = F.logsigmoid(torch.where(masks, logits, -logits))
    return -torch.where(masks, 0.25, 0.75) * (1 - log_true.exp()) ** 2 * log_true


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss over the last dimension."""
    probs = logits.sigmoid()
    return 1 - (2 * (probs * masks).sum(-1) + 1) / (probs.sum(-1) + masks.sum(-1) + 1)


@torch.no_grad()
def match(class_logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Cheapest pairs of one layer and image: (Q, K + 1), (Q, h, w), (M,), (M, H, W) bool."""
    small = F.interpolate(masks[None].float(), size=mask_logits.shape[-2:], mode='nearest')[0] > 0.5
    logits, small = mask_logits.flatten(1)[:, None], small.flatten(1)[None]
    cost = 20 * focal(logits, small).mean(-1) + dice(logits, small) - class_logits.softmax(-1)[:, labels]
    return tuple(torch.from_numpy(index) for index in linear_sum_assignment(cost.numpy()))


def losses(class_logits: Tensor, mask_logits: Tensor, targets) -> tuple[dict[str, Tensor], list]:
    """Weighted losses under the names of `SetCriterion`, and the matches [layer][image]."""
    found, matches = {}, []
    normaliser = max(1, sum(len(target.labels) for target in targets))
    for layer, (classes, masks) in enumerate(zip(class_logits, mask_logits, strict=True)):
        wanted = torch.full(classes.shape[:2], classes.shape[2] - 1)
        focal_sum = dice_sum = classes.new_zeros(())
        matches.append([])
        for image, target in enumerate(targets):
            truth = target.masks_of(torch.arange(len(target.labels)))
            nothing = torch.zeros(2, 0, dtype=torch.long)
            query_idx, target_idx = match(classes[image], masks[image], target.labels, truth) if len(truth) else nothing
            matches[-1].append((query_idx, target_idx))
            wanted[image, query_idx] = target.labels[target_idx]
            if len(query_idx):
                matched = masks[image, query_idx][None]
                logits = F.interpolate(matched, size=target.size, mode='bilinear', align_corners=False)[0].flatten(1)
                focal_sum = focal_sum + focal(logits, truth[target_idx].flatten(1)).mean(1).sum()
                dice_sum = dice_sum + dice(logits, truth[target_idx].flatten(1)).sum()
        weight = classes.new_ones(classes.shape[2])
        weight[-1] = 0.1
        prefix = '' if layer == len(class_logits) - 1 else f'd{layer}.'
        found[f'{prefix}loss_cls'] = F.cross_entropy(classes.flatten(0, 1), wanted.flatten(), weight)
        found[f'{prefix}loss_mask'] = 20 * focal_sum / normaliser
        found[f'{prefix}loss_dice'] = dice_sum / normaliser
    return found, matches
