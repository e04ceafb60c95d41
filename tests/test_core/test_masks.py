"""The three representations of masks equal the multiplied-out product, in values and gradients."""

import pytest
import torch

from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Folded, Plain, Product, join_layers

KINDS = ['plain', 'product', 'product made by a convolution', 'folded']


def make(kind: str, num_queries: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0):
    """Masks, their logits (2, n, 7, 9) from the equations, and the leaf tensors of both."""
    torch.manual_seed(seed)
    conv = torch.nn.Conv2d(4, 6, 3, padding=1).to(dtype)
    x, embed = (torch.randn(*s, dtype=dtype, requires_grad=True) for s in ((2, 4, 7, 9), (2, num_queries, 6)))
    expected = torch.einsum('bnc,bchw->bnhw', embed, conv(x))
    leaves = [x, embed, conv.weight, conv.bias]
    masks = {
        'plain': lambda: Plain(torch.einsum('bnc,bchw->bnhw', embed, conv(x))),
        'product': lambda: Product(embed, conv(x)),
        'product made by a convolution': lambda: Product(embed, conv(x), LastConv.of(conv, x)),
        'folded': lambda: Folded(embed, LastConv.of(conv, x)),
    }[kind]()
    return masks, expected, leaves


def assert_same(found, expected, leaves):
    torch.testing.assert_close(found, expected)
    weights = torch.rand_like(expected)
    gradients = (torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True) for value in (found, expected))
    for gradient, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if wanted is None else wanted)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_queries', [1, 5, 6, 9])
def test_logits_and_gradients_equal_the_product(kind, num_queries):
    masks, expected, leaves = make(kind, num_queries)
    assert masks.num_queries == num_queries and masks.size == (7, 9) and masks.like.dtype == torch.float64
    assert_same(masks.logits(1), expected[1], leaves)
    chosen = torch.tensor([num_queries - 1, 0, 0])
    masks, expected, leaves = make(kind, num_queries)
    assert_same(masks.logits(0, chosen), expected[0, chosen], leaves)
    masks, expected, leaves = make(kind, num_queries)
    assert_same(masks.multiplied_out(), expected, leaves)
    masks, expected, leaves = make(kind, num_queries)
    assert_same(masks.of_image(1).logits(0), expected[1], leaves)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('pairs', [[(0, 3), (0, 0), (1, 2)], [(1, 4)], []])
def test_matched_queries_of_the_batch_come_in_order(kind, pairs):
    masks, expected, leaves = make(kind)
    query = torch.tensor([image * 5 + query for image, query in pairs], dtype=torch.long)
    counts = [sum(image == i for image, _ in pairs) for i in range(2)]
    found = masks.matched(query, counts)
    assert found.requires_grad
    assert_same(found, expected.flatten(0, 1)[query], leaves)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('step', [1, 10, 1000])
def test_chunks_of_pixels_make_up_the_whole(kind, step):
    masks, expected, _ = make(kind)
    for images in (slice(0, 2), slice(1, 2)):
        chunks = [
            chunk.clone()
            for chunk in masks.pixel_chunks(images, step)
            if not chunk.requires_grad and chunk.mul_(1) is chunk
        ]
        torch.testing.assert_close(torch.cat(chunks, 1), expected[images].flatten(2).transpose(1, 2))


@pytest.mark.parametrize('kind', KINDS)
def test_half_precision_leaves_matched_logits_and_chunks_in_float32(kind):
    masks, _, _ = make(kind, dtype=torch.bfloat16)
    assert masks.matched(torch.tensor([0]), [1, 0]).dtype == torch.float32
    assert next(masks.pixel_chunks(slice(0, 2), 4)).dtype == torch.float32


@pytest.mark.parametrize('kind', KINDS)
def test_chunks_may_be_overwritten(kind):
    masks, expected, _ = make(kind)
    for chunk in masks.pixel_chunks(slice(0, 2), 20):
        chunk.zero_()
    torch.testing.assert_close(masks.multiplied_out(), expected)


def test_layers_that_share_their_features_are_joined():
    product, expected, _ = make('product')
    other = Product(torch.randn_like(product.embed), product.features)
    own, plain = make('product', seed=1)[0], make('plain')[0]
    folded = make('folded')[0]
    groups = join_layers([product, other, own, plain, plain, folded, Folded(other.embed, folded.conv)])
    assert [list(run) for run, _ in groups] == [[0, 1], [2], [3], [4], [5, 6]]
    joined = groups[0][1]
    torch.testing.assert_close(joined.multiplied_out()[:, :5], expected)
    torch.testing.assert_close(joined.multiplied_out()[:, 5:], other.multiplied_out())
    assert groups[1][1] is own and groups[4][1].num_queries == 10
    torch.testing.assert_close(plain.joined([plain]).multiplied_out(), torch.cat([plain.all_logits] * 2, 1))
