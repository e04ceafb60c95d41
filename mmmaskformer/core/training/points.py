"""Mask losses and matching costs at some points instead of all pixels, as in Mask2Former.

The costs of an image are computed at uniformly drawn points, the same for all queries and segments. Each matched mask
has its own points: most are the least certain ones of a larger random sample, the others are random. Points lie between
pixels; logits and true masks are interpolated bilinearly, so that a point may belong to a segment in part.

Source: Mask2Former, section 3.3; Kirillov et al., PointRend.
"""

import torch
from torch import Tensor, nn

from mmmaskformer.core.checks import FRACTION, Check, checked, number, one_of, whole
from mmmaskformer.core.numerics import at_least_float32
from mmmaskformer.core.structures import Layers, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.pairwise import pairwise_point_costs
from mmmaskformer.core.training.parts import Cost, MaskLoss, Pairs, by_layer
from mmmaskformer.core.upsampling import sample_points

SETTINGS: dict[str, Check] = {
    'num_points': whole(1),
    'oversample_ratio': number(1),
    'importance_ratio': FRACTION,
    'kind': one_of(*equations.PER_PIXEL),
    'seed': whole(0).or_none(),
}
"""Types and ranges of the settings of losses and costs at points."""
OF_COSTS = ('num_points', 'kind', 'seed')


class RandomPoints(nn.Module):
    """Draws random points.

    Args:
        seed: None draws from torch's own generator, which a training run seeds at every iteration, so that resumed runs
            are reproducible. A number draws the same points in every process, independent of other random numbers: they
            depend on the seed, the iteration and the number of draws in it.
        stream: instances with the same seed and different streams draw different points.
    """

    def __init__(self, seed: int | None, stream: int = 0):
        super().__init__()
        self.seed = seed
        self.stream = stream
        self.start(0)

    def start(self, iteration: int) -> None:
        """Begin an iteration; called by `RepeatableRunHook`, so that a resumed run draws the same points."""
        self.iteration = iteration
        self.draws = 0

    def draw(self, *shape: int, device: torch.device) -> Tensor:
        """Uniform (*shape, 2) float32 in [0, 1)."""
        if self.seed is None:
            return torch.rand(*shape, 2, device=device)
        self.draws += 1
        generator = torch.Generator(device).manual_seed(
            hash((self.seed, self.stream, self.iteration, self.draws)) % 2**63
        )
        return torch.rand(*shape, 2, device=device, generator=generator)


@checked(**SETTINGS)
class PointMaskLoss(MaskLoss):
    """Binary cross-entropy, averaged over points, and dice loss of points, as a replacement for `FocalDiceLoss`.

    Computes `equations.soft_mask_losses` of the logits at the points. Mask2Former uses the weights 5 and 5, and 2 for
    the classification loss.

    Args:
        num_points: P.
        oversample_ratio: size of the random sample from which the least certain points are selected, relative to P.
        importance_ratio: fraction of the points that are selected in this way; the others are random.
        kind: 'bce', as in Mask2Former, or 'focal'.
        seed: see `RandomPoints`.

    Raises:
        ValueError: if a value is out of range.
    """

    names = ('mask', 'dice')
    config_key = 'criterion.mask_loss'

    def __init__(
        self,
        *,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_ratio: float = 0.75,
        kind: str = 'bce',
        seed: int | None = None,
    ):
        super().__init__()
        self.num_points = num_points
        self.oversample_ratio = oversample_ratio
        self.importance_ratio = importance_ratio
        self.kind = kind
        self.points = RandomPoints(seed)

    def forward(self, mask_logits: Tensor, targets: Targets, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """See `MaskLoss.forward`; both losses are float32 or float64."""
        logits = at_least_float32(mask_logits)[:, None]
        points = self.choose(logits.detach())
        truth, counted = masks_at_points(targets, pairs, points)
        found = sample_points(logits, points)[:, 0]
        return equations.soft_mask_losses(found, truth.to(found.dtype), counted, self.kind)

    def choose(self, logits: Tensor) -> Tensor:
        """Points (N, P, 2) of masks whose logits are (N, 1, h, w)."""
        most = int(self.num_points * self.oversample_ratio)
        sample = self.points.draw(len(logits), most, device=logits.device)
        number = int(self.importance_ratio * self.num_points)
        chosen = sample_points(logits, sample)[:, 0].abs().neg().topk(number, 1).indices
        uncertain = sample.gather(1, chosen[..., None].expand(-1, -1, 2))
        if number == self.num_points:
            return uncertain
        others = self.points.draw(len(logits), self.num_points - number, device=logits.device)
        return torch.cat([uncertain, others], 1)

    def matching_cost(self) -> Cost:
        """The corresponding cost, at random points."""
        return PointMaskCost(num_points=self.num_points, kind=self.kind, seed=self.points.seed)


@checked(**{key: SETTINGS[key] for key in OF_COSTS})
class PointMaskCost(Cost):
    """Binary cross-entropy and dice loss of all pairs at random points of each image, `equations.soft_mask_losses`.

    All decoder layers use the same points; Mask2Former draws points for each.

    Args:
        num_points: P.
        kind: 'bce', as in Mask2Former, or 'focal'.
        seed: see `RandomPoints`.

    Raises:
        ValueError: if a value is out of range.
    """

    names = ('mask', 'dice')
    # Not `uses_masks`: inf or NaN between the points does not show in the costs, but may in the losses.

    def __init__(self, *, num_points: int = 12544, kind: str = 'bce', seed: int | None = None):
        super().__init__()
        self.num_points = num_points
        self.kind = kind
        self.points = RandomPoints(seed, stream=1)  # other points than those of the loss

    def forward(self, layers: Layers, targets: Targets) -> tuple[Tensor, Tensor]:
        """See `Cost.forward`; float32 or float64."""
        points = self.points.draw(len(targets), self.num_points, device=layers.device)
        members = members_at_points(targets, points)
        counted = _counted_at_points(targets, points)
        groups = [masks.at_points(points) for _, masks in layers.groups]
        return by_layer(layers, [pairwise_point_costs(masks, members, counted, self.kind) for masks in groups])


def members_at_points(targets: Targets, points: Tensor) -> Tensor:
    """The fraction of each point that belongs to each segment.

    Args:
        targets: targets of B images.
        points: (B, P, 2), (x, y) in [0, 1].

    Returns:
        (B, M, P) float32 in [0, 1], with M the largest number of segments of an image; 0 beyond an image's own number.
    """
    index, weight = _corners(points, targets.size)
    most = max(targets.counts)
    found = weight.new_zeros(len(targets), most + 1, points.shape[1])
    if targets.segment_maps is not None:
        segment = targets.segment_maps.flatten(1).long().gather(1, index.flatten(1)).view_as(index)
        return found.scatter_add_(1, torch.where(segment < 0, most, segment), weight)[:, :most]
    for image, masks in enumerate(targets.own_masks.flatten(1).split(list(targets.counts))):
        found[image, : len(masks)] = (masks[:, index[image]] * weight[image]).sum(1)
    return found[:, :most]


def masks_at_points(targets: Targets, pairs: Pairs, points: Tensor) -> tuple[Tensor, Tensor]:
    """Like `members_at_points`, for selected segments with their own points.

    Args:
        targets: targets of B images.
        pairs: N segments.
        points: (N, P, 2), (x, y) in [0, 1].

    Returns:
        truth: (N, P) float32 in [0, 1].
        counted: (N, P) bool, whether the pixel that contains a point counts.
    """
    index, weight = _corners(points, targets.size)
    counts = torch.tensor(pairs.counts).to(points.device, non_blocking=True)
    image = torch.arange(len(counts), device=points.device).repeat_interleave(counts, output_size=len(points))
    if targets.segment_maps is not None:
        found = targets.segment_maps.flatten(1)[image[:, None, None], index]
        inside = found == pairs.segment.to(found.dtype)[:, None, None]
    else:
        starts = torch.tensor(targets.starts).to(points.device, non_blocking=True)
        inside = targets.own_masks.flatten(1)[(starts[image] + pairs.segment)[:, None, None], index]
    counted = targets.counted
    if counted is None:
        return (inside * weight).sum(1), torch.ones_like(points[..., 0], dtype=torch.bool)
    return (inside * weight).sum(1), counted.flatten(1)[image[:, None], _pixel(points, targets.size)]


def _counted_at_points(targets: Targets, points: Tensor) -> Tensor | None:
    """Whether the pixel that contains each point (B, P, 2) counts, (B, P) bool; None if all do."""
    counted = targets.counted
    return None if counted is None else counted.flatten(1).gather(1, _pixel(points, targets.size))


def _pixel(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Flat index (..., P) of the pixel that contains each point (..., P, 2)."""
    column = (points[..., 0] * size[1]).long().clamp(max=size[1] - 1)
    row = (points[..., 1] * size[0]).long().clamp(max=size[0] - 1)
    return row * size[1] + column


def _corners(points: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The four pixels around each point and their bilinear weights, 0 for those outside; see `sample_points`.

    Args:
        points: (n, P, 2).
        size: (H, W).

    Returns:
        (n, 4, P) int64 flat index, and (n, 4, P) float32.
    """
    x, y = points[..., 0] * size[1] - 0.5, points[..., 1] * size[0] - 0.5
    left, top = x.floor(), y.floor()
    index, weight = [], []
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
            weight.append((1 - (x - column).abs()) * (1 - (y - row).abs()) * inside)
            index.append(row.clamp(0, size[0] - 1).long() * size[1] + column.clamp(0, size[1] - 1).long())
    return torch.stack(index, 1), torch.stack(weight, 1)
