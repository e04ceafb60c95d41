import pytest
import torch
import torch.nn.functional as F

from mmmaskformer.core.inference.labels.views import Axis, Taps, score_view, window_view
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import semantic_inference


def matrix_of(taps: Taps, inputs: int) -> torch.Tensor:
    """The map as a matrix (outputs, inputs) in float64."""
    matrix = torch.zeros(len(taps.inputs), inputs, dtype=torch.float64)
    return matrix.scatter_add(1, taps.inputs, taps.weight.double())


def scores_of(view) -> torch.Tensor:
    """Scores (K, H, W) computed with full matrices."""
    height, width, _ = view.mask_logits.shape
    values = view.mask_logits.double().permute(2, 0, 1)

    def along_both(rows: Taps, columns: Taps, values: torch.Tensor) -> torch.Tensor:
        return matrix_of(rows, values.shape[1]) @ values @ matrix_of(columns, values.shape[2]).T

    probs = along_both(view.rows.before, view.columns.before, values).sigmoid()
    if view.rows.after is not None:
        probs = along_both(view.rows.after, view.columns.after, probs)
    return torch.einsum('qk,qhw->khw', view.class_probs.double(), probs)


@pytest.mark.parametrize(('low', 'high'), [(1, 1), (1, 5), (4, 16), (5, 17), (16, 16), (17, 5)])
def test_bilinear_taps_are_torchs_resize(low, high):
    like = torch.zeros(1, dtype=torch.float64)
    x = torch.randn(1, 1, low, dtype=torch.float64)
    found = matrix_of(Taps.bilinear(low, high, like), low) @ x[0, 0]
    torch.testing.assert_close(found, F.interpolate(x, size=high, mode='linear')[0, 0])


def test_taps_one_after_the_other_are_a_product_of_matrices():
    like = torch.zeros(1, dtype=torch.float64)
    first, second = Taps.bilinear(5, 20, like), Taps.bilinear(20, 13, like)
    torch.testing.assert_close(matrix_of(second.after(first), 5), matrix_of(second, 20) @ matrix_of(first, 5))


def test_mirrored_axes_are_turned_at_the_output():
    like = torch.zeros(1, dtype=torch.float64)
    before, after = Taps.bilinear(5, 20, like), Taps.bilinear(20, 13, like)
    assert torch.equal(matrix_of(Axis(before).mirrored().before, 5), matrix_of(before, 5).flip(0))
    turned = Axis(before, after).mirrored()
    assert torch.equal(matrix_of(turned.before, 5), matrix_of(before, 5))
    assert torch.equal(matrix_of(turned.after, 20), matrix_of(after, 20).flip(0))
    assert Axis(before).size == 20 and turned.size == 13


@pytest.mark.parametrize('resize_masks_first', [True, False])
@pytest.mark.parametrize('out_size', [(30, 37), (21, 50)])
def test_a_view_holds_the_scores(out_size, resize_masks_first):
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 8, 10, dtype=torch.float64)
    masks = QueryMasks.of_logits(mask_logits, (32, 40), (30, 37), out_size, True)
    view = score_view(class_logits, masks, resize_masks_first=resize_masks_first)
    expected = semantic_inference(class_logits, masks, resize_masks_first=resize_masks_first)
    torch.testing.assert_close(scores_of(view), expected)


def test_a_window_is_weighted_and_nothing_outside():
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 4, 5, dtype=torch.float64)
    weights = torch.rand(32, dtype=torch.float64), torch.rand(40, dtype=torch.float64)
    rows, columns = slice(8, 24), slice(20, 40)
    view = window_view(
        class_logits, mask_logits, rows=rows, columns=columns, weights=weights, image_size=(32, 40), out_size=(32, 40)
    )
    expected = torch.zeros(4, 32, 40, dtype=torch.float64)
    probs = F.interpolate(mask_logits[None], size=(16, 20), mode='bilinear')[0].sigmoid()
    inside = torch.einsum('qk,qhw->khw', class_logits.softmax(-1)[:, :-1], probs)
    expected[:, rows, columns] = inside * weights[0][rows, None] * weights[1][columns]
    torch.testing.assert_close(scores_of(view), expected)
