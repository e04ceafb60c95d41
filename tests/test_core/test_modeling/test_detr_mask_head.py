import pytest
import torch
from torch.nn import functional as F

from mmmaskformer.core.modeling.detr_mask_head import DetrMaskHead

CHANNELS, HEADS = 128, 8


def make_inputs(num_queries=3, batch=2):
    generator = torch.Generator().manual_seed(0)
    coarse = (2, 3)
    sizes = [(6, 8), (10, 14), (19, 27)]
    features = [torch.randn(batch, 4 + i, *size, generator=generator) for i, size in enumerate(sizes)]
    projected, memory = torch.randn(2, batch, CHANNELS, *coarse, generator=generator)
    return torch.randn(batch, num_queries, CHANNELS, generator=generator), projected, memory, features


def make_head():
    torch.manual_seed(0)
    head = DetrMaskHead(in_channels=[4, 5, 6], channels=CHANNELS, num_heads=HEADS)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return head


def literal(head, state, projected, memory, features):
    """Mask of one query of one image, computed step by step."""
    query = head.attention.query_proj(state).view(HEADS, -1)
    keys = torch.einsum('oc,chw->ohw', head.attention.key_proj.weight, memory)
    keys = (keys + head.attention.key_proj.bias[:, None, None]).unflatten(0, (HEADS, -1))
    scores = (query[:, :, None, None] * keys).sum(1) / (CHANNELS / HEADS) ** 0.5
    x = torch.cat([projected, scores.flatten().softmax(0).view_as(scores)])[None]
    layers = list(zip(head.convs, head.norms, strict=True))
    for conv, norm in layers[:2]:
        x = F.relu(norm(conv(x)))
    for adapter, feature, (conv, norm) in zip(head.adapters, features, layers[2:], strict=True):
        lateral = adapter(feature[None])
        x = F.relu(norm(conv(lateral + F.interpolate(x, size=lateral.shape[2:], mode='nearest'))))
    return head.mask_conv(x)[0, 0]


def test_every_query_is_up_sampled_separately():
    head, (states, projected, memory, features) = make_head(), make_inputs()
    found = head(states, projected, memory, features)
    assert found.shape == (2, 3, 19, 27)
    for image in range(2):
        for query in range(3):
            of_image = [feature[image] for feature in features]
            expected = literal(head, states[image, query], projected[image], memory[image], of_image)
            torch.testing.assert_close(found[image, query], expected, rtol=1e-4, atol=1e-4)


def test_it_has_the_parameters_of_detr():
    """Counted from the layers in DETR's code: MHAttentionMap(256, 256, 8), MaskHeadSmallConv(264, …, 256)."""
    head = DetrMaskHead(in_channels=[1024, 512, 256])
    of_attention = sum(parameter.numel() for parameter in head.attention.parameters())
    assert of_attention == 2 * (256 * 256 + 256)
    widths = [264, 264, 128, 64, 32, 16]
    convs = sum(9 * a * b + b + 2 * b for a, b in zip(widths[:-1], widths[1:], strict=True))
    adapters = sum(a * b + b for a, b in zip([1024, 512, 256], widths[2:5], strict=True))
    total = sum(parameter.numel() for parameter in head.parameters())
    assert total - of_attention == convs + adapters + 9 * 16 + 1


def test_widths_that_the_norms_cannot_divide_are_refused():
    with pytest.raises(ValueError, match='channels: found 100, expected a multiple of 128'):
        DetrMaskHead(in_channels=[4, 5, 6], channels=100)
