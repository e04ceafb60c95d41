import pytest
import torch

from mmmaskformer.core.losses import class_loss, focal_terms, pairwise_mask_costs


def test_pairwise_costs_of_no_segment_are_empty():
    focal, dice = pairwise_mask_costs(torch.randn(4, 10), torch.zeros(0, 10, dtype=torch.bool))
    assert focal.shape == dice.shape == (4, 0)


def test_pairwise_costs_need_one_grid():
    with pytest.raises(ValueError, match='10 pixels and targets 9'):
        pairwise_mask_costs(torch.randn(4, 10), torch.zeros(2, 9, dtype=torch.bool))


def test_focal_terms_keep_their_tails():
    x = torch.tensor([-80.0, -30.0, 30.0, 80.0], dtype=torch.float64)
    positive, negative = focal_terms(x.float(), x.float().sigmoid())
    torch.testing.assert_close(positive[:2].double(), 0.25 * -x[:2], rtol=1e-6, atol=0)
    torch.testing.assert_close(negative[2:].double(), 0.75 * x[2:], rtol=1e-6, atol=0)
    assert positive[3] >= 0 and negative[0] >= 0 and positive[3] < 1e-30 and negative[0] < 1e-30


def test_class_loss_is_a_mean_weighted_by_class():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
    nll = -logits.log_softmax(-1)
    expected = (nll[0, 0] + 0.1 * nll[1, 2]) / 1.1
    torch.testing.assert_close(class_loss(logits, torch.tensor([0, 2]), 0.1), expected)
    assert class_loss(logits.bfloat16(), torch.tensor([0, 2]), 0.1).dtype == torch.float32
