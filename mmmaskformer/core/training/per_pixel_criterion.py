"""Training losses of the per-pixel baselines: cross-entropy of pixels, or the mask losses instead."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmmaskformer.core.checks import BOOLEAN, WEIGHT, checked, list_of, mapping_of, whole
from mmmaskformer.core.masks import Masks
from mmmaskformer.core.numerics import NonFiniteLogitsError, at_least_float32
from mmmaskformer.core.part_outputs import check_pixel_layers
from mmmaskformer.core.shapes import check_same_device
from mmmaskformer.core.structures import MaskTarget, Targets
from mmmaskformer.core.training.class_weights import ClassWeights
from mmmaskformer.core.training.criterion import mean_num_segments
from mmmaskformer.core.training.parts import (
    FocalDiceLoss,
    MaskLoss,
    Pairs,
    checked_weights,
    named_values,
    require_finite_losses,
    require_names,
)
from mmmaskformer.core.training.pixel_cross_entropy import pixel_cross_entropy
from mmmaskformer.core.training.targets import check_segments


@checked(num_classes=whole(1), loss_weight=WEIGHT, class_weight=(list_of(WEIGHT) | mapping_of(WEIGHT)).or_none())
class PixelCrossEntropy(nn.Module):
    """Softmax cross-entropy of every layer, averaged over the labelled pixels of this rank's batch.

    Args:
        num_classes: K.
        loss_weight: weight of the loss of every layer.
        class_weight: weights of the classes, see `SetCriterion`; the mean is then weighted.

    Source: paper, sections 3.1 and 4; official code, PerPixelBaselineHead.losses. Differs: a batch without a labelled
    pixel gives 0 instead of NaN.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        loss_weight: float = 1.0,
        class_weight: Sequence[float] | Mapping[str, float] | None = None,
    ):
        super().__init__()
        self.loss_weight = loss_weight
        self.class_weights = ClassWeights(class_weight, num_classes)

    def name_classes(self, names: Sequence[str]) -> None:
        """Look up the weights that are given by class name; see `ClassWeights.name_classes`."""
        self.class_weights.name_classes(names)

    def forward(self, predictions: Sequence[Masks], targets: Targets | Sequence[MaskTarget]) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            predictions: logits (B, K, h, w) of L layers, the last one final.
            targets: targets of the B images, at the network's input size, as maps of segments.

        Returns:
            Scalars ``loss_ce`` of the final layer and ``d0.loss_ce`` … of the earlier ones, first layer first;
            weighted, float32 or float64. Their sum is the training loss.

        Raises:
            NonFiniteLogitsError: if logits are inf or NaN.
            ValueError: if predictions and targets are inconsistent, the targets are masks that may overlap, there is
                only one class, or class weights are given by name and `name_classes` was not called.
        """
        self.class_weights.require_names()
        if len(self.class_weights.values) < 2:
            raise ValueError(
                'num_classes=1: the softmax cross-entropy over one class is always 0, so nothing would be trained. '
                'Fix: num_classes=2, with the background as a separate class in the labels'
            )
        targets = Targets.of(targets)
        classes = _checked_classes(predictions, targets, len(self.class_weights.values))
        weight = self.class_weights.values
        total = (weight[classes.clamp(min=0)] * (classes >= 0)).sum().clamp(min=torch.finfo(weight.dtype).tiny)
        losses = []
        with torch.autocast(classes.device.type, enabled=False):
            for masks in predictions:
                images = zip(_all_logits(masks, len(classes)).split(len(weight)), classes, strict=True)
                sums = [pixel_cross_entropy(logits, of_pixel, weight) for logits, of_pixel in images]
                losses.append(self.loss_weight * torch.stack(sums).sum() / total)
        return _by_layer('loss_ce', losses)


@checked(num_classes=whole(1), loss_weights=mapping_of(WEIGHT).or_none(), ignore_in_loss=BOOLEAN)
class PixelMaskLosses(nn.Module):
    """The mask losses of MaskFormer instead of the cross-entropy: the paper's control experiment.

    The mask of every class is trained with the pixels of that class, or with an empty mask if the class is not in the
    image, since there is no class probability that could suppress it. Sums over the classes are divided by the number
    of classes in the images, averaged over ranks, at least 1, as in `SetCriterion`.

    Args:
        num_classes: K.
        mask_loss: losses of the masks; `FocalDiceLoss`, as published, if None.
        loss_weights: weights of the losses, by name; see `SetCriterion`.
        ignore_in_loss: exclude pixels without a label; otherwise they are background of every class.

    Source: paper, section 4.3 ("training PerPixelBaseline+ with exactly the same losses"); there is no official code.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        mask_loss: MaskLoss | None = None,
        loss_weights: Mapping[str, float] | None = None,
        ignore_in_loss: bool = False,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.mask_loss = FocalDiceLoss() if mask_loss is None else mask_loss
        require_names(self.mask_loss)
        self.loss_weights = checked_weights(loss_weights, self.mask_loss.names, 'criterion.loss_weights')
        self.ignore_in_loss = ignore_in_loss

    def forward(self, predictions: Sequence[Masks], targets: Targets | Sequence[MaskTarget]) -> dict[str, Tensor]:
        """Compute the weighted losses; arguments as in `PixelCrossEntropy.forward`.

        Returns:
            ``loss_mask`` and ``loss_dice`` (by the names of the mask loss) of the final layer and ``d0.loss_mask`` … of
            the earlier ones.

        Raises:
            NonFiniteLogitsError: if logits are inf or NaN.
            ValueError: if the targets are masks that may overlap, or the mask loss returns tensors of another number or
                shape.
        """
        targets = Targets.of(targets)
        maps, batch = _checked_classes(predictions, targets, self.num_classes), len(targets)
        normaliser = mean_num_segments(targets, maps.device)
        # Class k is "segment" k of every image, so segments may be empty.
        segment = torch.arange(self.num_classes, device=maps.device).repeat(batch)
        counts = [self.num_classes] * batch
        dtype = torch.int16 if self.num_classes < 2**15 else torch.int32
        of_classes = Targets(segment, tuple(counts), segment_maps=maps.to(dtype), leave_out_ignored=self.ignore_in_loss)
        found: dict[str, list[Tensor]] = {name: [] for name in self.mask_loss.names}
        with torch.autocast(maps.device.type, enabled=False):
            for layer, masks in enumerate(predictions):
                logits = _all_logits(masks, batch)
                losses = self.mask_loss(logits, of_classes, Pairs(counts, segment))
                named = named_values(self.mask_loss, losses, segment.shape, logits.device)
                where = f'decoder layer {layer + 1} of {len(predictions)}: '
                require_finite_losses(self.mask_loss, named, logits, where)
                for name, values in named:
                    found[name].append(self.loss_weights[name] * values.sum() / normaliser)
        by_name = {name: _by_layer(f'loss_{name}', losses) for name, losses in found.items()}
        return {key: loss for losses in by_name.values() for key, loss in losses.items()}


def _checked_classes(predictions: Sequence[Masks], targets: Targets, num_classes: int) -> Tensor:
    """`class_maps` of targets that are consistent with the predictions; ValueError for others."""
    check_segments(targets, num_classes)
    classes = class_maps(targets)
    check_pixel_layers(predictions, len(targets), num_classes)
    check_same_device(targets, predictions[0].like.device)
    return classes


def class_maps(targets: Targets) -> Tensor:
    """Class of every pixel.

    Args:
        targets: targets of B images, as maps of segments.

    Returns:
        (B, H, W) int64 in [0, K); `NO_SEGMENT` and `IGNORED` as in the targets.

    Raises:
        ValueError: if the targets are masks, which may overlap.
    """
    if targets.segment_maps is None:
        raise ValueError(
            'the targets are masks, which may overlap; expected one class per pixel. Fix: train per-pixel models on '
            'label maps, or use MaskFormerHead'
        )
    maps = targets.segment_maps.long()
    starts = torch.tensor(targets.starts).to(maps.device, non_blocking=True)[:, None, None]
    labels = torch.cat([targets.labels, targets.labels.new_zeros(1)])  # so that there is one to index
    return torch.where(maps < 0, maps, labels[torch.where(maps < 0, len(targets.labels), maps + starts)])


def _all_logits(masks: Masks, batch: int) -> Tensor:
    """Logits (B * K, h, w) float32 or float64 of all classes of all images, one image after the other."""
    query = torch.arange(batch * masks.num_queries, device=masks.like.device)
    return masks.matched(query, [masks.num_queries] * batch)


def _by_layer(name: str, losses: Sequence[Tensor]) -> dict[str, Tensor]:
    """Losses of L layers by name, with a prefix for earlier layers.

    Raises:
        NonFiniteLogitsError: if one is inf or NaN.
    """
    finite = torch.stack([at_least_float32(loss.detach()) for loss in losses]).isfinite().tolist()
    if not all(finite):
        raise NonFiniteLogitsError(
            f'decoder layer {finite.index(False) + 1} of {len(finite)}: {name} is inf or NaN; expected a finite value. '
            'Fix: lower the learning rate, keep gradient clipping on (clip_grad max_norm 0.01), train without --amp or '
            "with bfloat16, and check the input images' mean and std."
        )
    prefixes = [*(f'd{layer}.' for layer in range(len(losses) - 1)), '']
    return {f'{prefix}{name}': loss for prefix, loss in zip(prefixes, losses, strict=True)}
