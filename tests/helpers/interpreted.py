"""Compares the Triton kernels with their PyTorch counterpart; TRITON_INTERPRET=1 must be set at import."""

import torch

from helpers import toy
from mmmaskformer.core.structures import MaskTarget, Targets
from mmmaskformer.core.training import one_pass, one_pass_triton
from mmmaskformer.core.training.equations import PER_PIXEL

CASES = [
    # (segments, coarse size, fine size, scale of the logits)
    (3, (6, 8), (24, 32), 4),
    (2, (5, 7), (5, 7), 4),
    (2, (5, 4), (19, 26), 4),
    (2, (7, 9), (13, 11), 4),
    (1, (9, 9), (5, 4), 4),
    (1, (1, 1), (3, 10), 4),
    (2, (10, 3), (40, 9), 60),
    (1, (4, 4), (16, 16), 400),
]


def compare(
    targets: list[MaskTarget], counts: list[int], logits: torch.Tensor, kind: str = 'focal', leave_out: bool = False
) -> None:
    """Values and gradients of the masks of several images, up to float32 rounding."""
    targets = Targets.of(targets).leaving_out_ignored(leave_out)
    weights = torch.rand(2, len(logits))
    target_idx = torch.cat([
        torch.randint(0, target.num_segments, (count,)) for target, count in zip(targets, counts, strict=True)
    ])  # fmt: skip
    results = []
    for losses in (one_pass.batch_mask_losses, one_pass_triton.batch_mask_losses):
        leaf = logits.clone().requires_grad_()
        focal, dice = losses(leaf, targets, counts, target_idx, kind)
        (grad,) = torch.autograd.grad((weights[0] * focal + weights[1] * dice).sum(), leaf)
        results.append((focal, dice, grad))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6 * float(expected.detach().abs().max()))


def main() -> None:
    torch.manual_seed(0)
    for seed, (segments, coarse, fine, scale) in enumerate(CASES):
        target = toy.make_target(segments, fine, seed=seed, ignored=True)
        target = toy.as_masks(target) if seed % 2 else target
        compare([target], [2], torch.randn(2, *coarse) * scale, list(PER_PIXEL)[seed % 3 == 2], leave_out=seed % 4 > 1)
    empty = MaskTarget(torch.zeros(1, dtype=torch.long), segment_map=torch.full((16, 16), -1, dtype=torch.int16))
    compare([empty], [2], torch.randn(2, 8, 8))
    # the interpreter's time grows with the square of the scale, so only the cases above vary it
    images = [toy.make_target(segments, (12, 20), seed=segments, ignored=True) for segments in (2, 1, 4)]
    compare(images, [2, 0, 3], torch.randn(5, 6, 10))
    compare([images[0], toy.as_masks(images[1]), images[2]], [2, 1, 2], torch.randn(5, 6, 10))
    for leave_out in (images, [toy.as_masks(image) for image in images]):
        compare(leave_out, [2, 0, 3], torch.randn(5, 6, 10), leave_out=True)
    print('all cases agree')


if __name__ == '__main__':
    main()
