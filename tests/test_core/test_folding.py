import pytest
import torch
from helpers import toy

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits


@pytest.mark.parametrize('queries', [0, 1, 5, 6, 9])
@pytest.mark.parametrize('kernel', [1, 3])
def test_folded_logits_equal_the_product_with_the_mask_features(queries, kernel):
    conv = torch.nn.Conv2d(4, 6, kernel, padding=kernel // 2).double()
    x, embed = torch.randn(2, 4, 7, 9).double(), torch.randn(queries, 6).double()
    last_conv = LastConv(x, conv.weight, conv.bias)
    torch.testing.assert_close(last_conv.mask_features(), conv(x))
    for image in range(2):
        expected = torch.einsum('nc,chw->nhw', embed, conv(x)[image])
        torch.testing.assert_close(last_conv.of_image(image).mask_logits(embed), expected)


def test_without_gradients_the_last_layer_makes_no_mask_features():
    model, features = toy.make_classifier().double(), [x.double() for x in toy.make_features()]
    with torch.no_grad():
        folded, plain = model(features, all_layers=False)[0], model(features, all_layers=True)[-1]
    assert folded.mask_features is None and plain.mask_features is not None
    assert folded.mask_size == plain.mask_size
    chosen = torch.tensor([3, 0])
    for image in range(2):
        torch.testing.assert_close(folded.mask_logits(image, chosen), plain.mask_logits(image, chosen))
        found, expected = (
            DeferredMaskLogits(prediction, (64, 96)).of_image(image, (60, 90), (75, 101)).logits(chosen)
            for prediction in (folded, plain)
        )
        torch.testing.assert_close(found, expected)
