import torch
from helpers import toy

from mmmaskformer.core.masks import Plain
from mmmaskformer.core.structures import Layers, MaskPrediction, Targets
from mmmaskformer.core.training.equations import class_cost, class_loss
from mmmaskformer.core.training.parts import ClassCost


def test_class_loss_is_a_mean_weighted_by_class():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
    nll = -logits.log_softmax(-1)
    weight = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    expected = (nll[0, 0] + 0.1 * nll[1, 2]) / 1.1
    torch.testing.assert_close(class_loss(logits, torch.tensor([0, 2]), weight), expected)


def test_the_class_cost_of_a_batch_is_the_equation_of_each_image():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 7, 6, generator=generator, dtype=torch.float64)
    layers = Layers.of([MaskPrediction(of_layer, Plain(torch.zeros(3, 7, 2, 2))) for of_layer in logits])
    targets = Targets.of([toy.make_target(count, (8, 9), seed=count) for count in (2, 0, 4)])
    (costs,) = ClassCost()(layers, targets)
    assert costs.shape == (2, 3, 7, 4)
    for image, target in enumerate(targets):
        expected = class_cost(logits[:, image], target.labels)
        assert torch.equal(costs[:, image, :, : target.num_segments], expected)
