import torch

from mmmaskformer.core.training.equations import class_loss


def test_class_loss_is_a_mean_weighted_by_class():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
    nll = -logits.log_softmax(-1)
    weight = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    expected = (nll[0, 0] + 0.1 * nll[1, 2]) / 1.1
    torch.testing.assert_close(class_loss(logits, torch.tensor([0, 2]), weight), expected)
