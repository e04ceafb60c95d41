import pytest
import torch
import torch.nn.functional as F
from helpers import oracles

from mmmaskformer.core.inference import query_masks
from mmmaskformer.core.inference.queries import assign_pixels, confident_queries
from mmmaskformer.core.inference.query_masks import DeferredMaskLogits, QueryMasks
from mmmaskformer.core.masks import Plain, Product


def make_masks(num_queries=6, out_size=(19, 23), **changes):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 6, 8, generator=generator, dtype=torch.float64)
    embed = torch.randn(num_queries, 5, generator=generator, dtype=torch.float64)
    masks = QueryMasks(
        Product(embed[None], features[None]), input_size=(24, 32), image_size=(22, 29), out_size=out_size
    )
    return masks._replace(**changes)


def test_logits_are_upsampled_cropped_and_resized():
    masks = make_masks()
    for query, found in enumerate(masks.logits()):
        coarse = torch.einsum('c,chw->hw', masks.masks.embed[0, query], masks.masks.features[0])
        expected = oracles.upsample(oracles.upsample(coarse, (24, 32))[:22, :29], (19, 23))
        torch.testing.assert_close(found, expected)


def test_chosen_queries_come_in_the_order_asked_for():
    masks, chosen = make_masks(), torch.tensor([4, 0, 4])
    torch.testing.assert_close(masks.logits(chosen), masks.logits()[chosen])
    multiplied = masks._replace(masks=Plain(masks.coarse_logits()[None]))
    torch.testing.assert_close(multiplied.logits(chosen), masks.logits()[chosen])


def test_zero_queries_give_zero_masks_of_the_right_size():
    assert make_masks().logits(torch.zeros(0, dtype=torch.long)).shape == (0, 19, 23)


@pytest.mark.parametrize('limit', [1, 2 * 19 * 23, 10**9])
def test_pieces_make_up_the_whole(monkeypatch, limit):
    monkeypatch.setitem(query_masks.CHUNK_ELEMENTS, 'cpu', limit)
    masks, chosen = make_masks(), torch.tensor([5, 1, 3])
    starts, parts = zip(*masks.chunks(chosen), strict=True)
    assert list(starts) == [0, 1, 2] if limit == 1 else starts[0] == 0
    torch.testing.assert_close(torch.cat(parts), masks.logits(chosen))


def test_a_mirrored_view_is_mirrored_back():
    masks = make_masks(image_size=(24, 32))
    turned = masks.masks._replace(features=masks.masks.features.flip(-1))
    mirrored = masks._replace(masks=turned, flipped=True)
    torch.testing.assert_close(mirrored.logits(), masks.logits())


def test_deferred_logits_act_as_the_batch_of_full_logits():
    torch.manual_seed(0)
    masks = Product(torch.randn(2, 7, 5), torch.randn(2, 5, 6, 8))
    deferred = DeferredMaskLogits(masks, (24, 32))
    logits = torch.einsum('bqc,bchw->bqhw', masks.embed, masks.features)
    expected = F.interpolate(logits, size=(24, 32), mode='bilinear', align_corners=False)
    assert len(deferred) == 2
    torch.testing.assert_close(torch.stack(list(deferred)), expected)
    torch.testing.assert_close(deferred[-1], expected[1])
    torch.testing.assert_close(torch.stack(deferred[1:]), expected[1:])
    with pytest.raises(IndexError):
        deferred[2]
    torch.testing.assert_close(deferred.of_image(1, (22, 29), (22, 29)).logits(), expected[1, :, :22, :29])


def test_confident_queries_are_above_the_threshold_and_not_no_object():
    probs = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.0, 0.9, 0.1]])
    query_idx, labels, scores = confident_queries(probs.log(), 0.5)
    assert query_idx.tolist() == [0, 3] and labels.tolist() == [0, 1]
    torch.testing.assert_close(scores, torch.tensor([0.8, 0.9]))
    exact = torch.tensor([[0.0, -float('inf'), 0.0]])
    assert len(confident_queries(exact, 0.5)[0]) == 0, 'the threshold itself is not enough'


@pytest.mark.parametrize('limit', [1, 3 * 19 * 23, 10**9])
@pytest.mark.parametrize('weighted', [True, False])
def test_every_pixel_goes_to_the_best_query(monkeypatch, limit, weighted):
    monkeypatch.setitem(query_masks.CHUNK_ELEMENTS, 'cpu', limit)
    masks, chosen = make_masks(), torch.tensor([1, 2, 4, 5])
    scores = torch.tensor([0.9, 0.5, 0.8, 1.0], dtype=torch.float64) if weighted else None
    winner, own_area = assign_pixels(masks, chosen, scores)
    logits = masks.logits(chosen)
    value = logits.sigmoid() * scores[:, None, None] if weighted else logits
    assert torch.equal(winner, value.argmax(0))
    assert torch.equal(own_area, (logits >= 0).flatten(1).sum(1))


def test_the_first_of_equal_queries_wins_across_pieces(monkeypatch):
    monkeypatch.setitem(query_masks.CHUNK_ELEMENTS, 'cpu', 1)
    masks = make_masks()
    masks = masks._replace(masks=Plain(masks.coarse_logits()[None, :1].expand(-1, 6, -1, -1)))
    winner, _ = assign_pixels(masks, torch.arange(6), torch.ones(6, dtype=torch.float64))
    assert not winner.any()
