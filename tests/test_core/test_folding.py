import pytest
import torch

from mmmaskformer.core.folding import LastConv


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
