import torch

from mmmaskformer.core.numerics import log_sigmoid


def test_log_sigmoid_keeps_its_tails():
    x = torch.tensor([-1000.0, -95.0, -80.0, -30.0, 0.0, 30.0, 80.0])
    expected = torch.nn.functional.logsigmoid(x.double())
    torch.testing.assert_close(log_sigmoid(x, x.sigmoid()).double(), expected, rtol=1e-6, atol=1e-12)
    moderate, out = x[2:], torch.empty(5)
    assert log_sigmoid(moderate, moderate.sigmoid(), tails=False, out=out) is out
    torch.testing.assert_close(out.double(), expected[2:], rtol=1e-6, atol=1e-12)
