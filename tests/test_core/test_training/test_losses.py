import torch

from mmmaskformer.core.training.losses import class_loss, log_sigmoid


def test_log_sigmoid_keeps_its_tails():
    x = torch.tensor([-1000.0, -95.0, -80.0, -30.0, 0.0, 30.0, 80.0])
    expected = torch.nn.functional.logsigmoid(x.double())
    torch.testing.assert_close(log_sigmoid(x, x.sigmoid()).double(), expected, rtol=1e-6, atol=1e-12)
    moderate, out = x[2:], torch.empty(5)
    assert log_sigmoid(moderate, moderate.sigmoid(), tails=False, out=out) is out
    torch.testing.assert_close(out.double(), expected[2:], rtol=1e-6, atol=1e-12)


def test_class_loss_is_a_mean_weighted_by_class():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
    nll = -logits.log_softmax(-1)
    expected = (nll[0, 0] + 0.1 * nll[1, 2]) / 1.1
    torch.testing.assert_close(class_loss(logits, torch.tensor([0, 2]), 0.1), expected)
    assert class_loss(logits.bfloat16(), torch.tensor([0, 2]), 0.1).dtype == torch.float32
