"""The labels are the arg-max of the plain scores, whatever the bounds are."""

import pytest
import torch
import torch.nn.functional as F
from helpers import official

from mmmaskformer.core.inference import query_masks
from mmmaskformer.core.inference.labels import search as semantic_labels
from mmmaskformer.core.inference.labels.search import label_map
from mmmaskformer.core.inference.labels.views import score_view
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import semantic_inference
from mmmaskformer.core.masks import Plain

QUERIES, COARSE = 12, (20, 25)


def blobs(count, generator, grid=(4, 5)):
    noise = torch.randn(1, count, *grid, generator=generator, dtype=torch.float64)
    return F.interpolate(noise, size=COARSE, mode='bicubic')[0]


def outputs(kind, num_classes, seed=0):
    """Class and mask logits in float64, in which only exact ties leave the arg-max undetermined."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(QUERIES, num_classes + 1, generator=generator, dtype=torch.float64)
    mask_logits = torch.randn(QUERIES, *COARSE, generator=generator, dtype=torch.float64)
    if kind in ('confident', 'unsure'):
        sure = 9 if kind == 'confident' else 3
        labels = torch.randint(0, num_classes, (5,), generator=generator)
        class_logits[5:, -1] += sure
        class_logits[range(5), labels] += sure
        mask_logits = blobs(QUERIES, generator) * (8 if kind == 'confident' else 2)
    if kind == 'flat':
        class_logits *= 1e-3
        mask_logits *= 1e-3
    if kind == 'alike':
        class_logits, mask_logits = class_logits[:1].expand(QUERIES, -1), mask_logits[:1].expand(QUERIES, -1, -1)
    if kind == 'extreme':
        mask_logits *= 1e4
    return class_logits, mask_logits


def assert_best(labels, scores):
    """Each label has the highest score, up to rounding."""
    assert labels.dtype == torch.int32
    assert labels.shape == scores.shape[1:]
    chosen = scores.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, scores.amax(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize('num_classes', [1, 2, 5, 150, 847])
@pytest.mark.parametrize('kind', ['random', 'confident', 'unsure', 'flat', 'alike', 'extreme'])
def test_labels_are_those_of_the_scores(kind, num_classes):
    class_logits, mask_logits = outputs(kind, num_classes)
    masks = QueryMasks.of_logits(mask_logits, (80, 100), (77, 91), (77, 91))
    expected = semantic_inference(class_logits, masks)
    assert_best(semantic_labels.semantic_labels(class_logits, masks), expected)


@pytest.mark.parametrize('out_size', [(77, 91), (77, 120), (33, 40), (150, 211), (1, 7), (400, 9)])
@pytest.mark.parametrize('resize_masks_first', [True, False])
@pytest.mark.parametrize('flipped', [True, False])
def test_both_orders_of_resizing_at_any_size(out_size, resize_masks_first, flipped):
    class_logits, mask_logits = outputs('confident', 9)
    masks = QueryMasks.of_logits(mask_logits, (80, 100), (77, 91), out_size, flipped)
    expected = semantic_inference(class_logits, masks, resize_masks_first=resize_masks_first)
    found = semantic_labels.semantic_labels(class_logits, masks, resize_masks_first=resize_masks_first)
    assert_best(found, expected)
    assert len(found.unique()) > 1


@pytest.mark.parametrize('limit', [1, 5000])
def test_pieces_make_up_the_whole(monkeypatch, limit):
    monkeypatch.setitem(query_masks.CHUNK_ELEMENTS, 'cpu', limit)
    class_logits, mask_logits = outputs('unsure', 9)
    masks = QueryMasks.of_logits(mask_logits, (80, 100), (80, 100), (60, 90))
    assert_best(semantic_labels.semantic_labels(class_logits, masks), semantic_inference(class_logits, masks))


@pytest.mark.parametrize('image', [0, 1])
@pytest.mark.parametrize('order', ['after', 'before'])
def test_labels_equal_the_published_ones(image, order):
    reference = official.load('semantic_inference')
    sizes = (reference['padded_size'], reference['image_sizes'][image], reference['out_sizes'][image])
    masks = QueryMasks.of_logits(reference['pred_masks'][image], *(tuple(size) for size in sizes))
    found = semantic_labels.semantic_labels(
        reference['pred_logits'][image], masks, resize_masks_first=order == 'before'
    )
    assert torch.equal(found.to(torch.uint8), reference[f'labels_resize_{order}'][image])


def test_scores_of_several_views_are_added():
    views, total = [], 0
    for seed, (flipped, input_size) in enumerate([(False, (80, 100)), (True, (40, 52)), (False, (120, 160))]):
        class_logits, mask_logits = outputs('unsure', 9, seed)
        masks = QueryMasks.of_logits(mask_logits, input_size, input_size, (77, 91), flipped)
        views.append(score_view(class_logits, masks))
        total = total + semantic_inference(class_logits, masks)
    assert_best(label_map(views), total)


def test_confident_predictions_need_few_tiles_at_pixel_level(monkeypatch):
    computed = []
    scores = semantic_labels._scores

    def counted(summands, tiles, classes):
        computed.append((len(tiles), len(classes)))
        return scores(summands, tiles, classes)

    monkeypatch.setattr(semantic_labels, '_scores', counted)
    class_logits = torch.full((2, 151), -9.0)
    class_logits[[0, 1], [7, 100]] = 9.0
    left = torch.arange(160) < 80
    mask_logits = torch.where(torch.stack([left, ~left]), 9.0, -9.0)[:, None].expand(2, 120, 160)
    masks = QueryMasks.of_logits(mask_logits, (480, 640), (480, 640), (480, 640))
    labels = semantic_labels.semantic_labels(class_logits, masks)
    assert torch.equal(labels, torch.where(torch.arange(640) < 320, 7, 100).int().expand(480, 640))
    assert computed == [(2 * 60, 2)], 'tiles along the border only, between two classes'


@pytest.mark.parametrize('resize_masks_first', [True, False])
def test_half_precision_and_autocast_do_not_change_labels(resize_masks_first):
    class_logits, mask_logits = (x.half().float() for x in outputs('unsure', 9))
    masks = QueryMasks.of_logits(mask_logits, (80, 100), (77, 91), (150, 211))
    expected = semantic_labels.semantic_labels(class_logits, masks, resize_masks_first=resize_masks_first)
    half = masks._replace(masks=Plain(mask_logits[None].half()))
    with torch.autocast('cpu', torch.bfloat16):
        found = semantic_labels.semantic_labels(class_logits, half, resize_masks_first=resize_masks_first)
    assert torch.equal(found, expected)


def test_weak_queries_are_skipped_where_they_cannot_win(monkeypatch):
    class_logits, mask_logits = outputs('confident', 150)
    mask_logits[5:] -= 60
    masks = QueryMasks.of_logits(mask_logits, (80, 100), (77, 91), (77, 91))
    queries = []
    scores = semantic_labels._scores

    def counted(summands, tiles, classes):
        queries.append((len(summands[0].view.class_probs), len(tiles)))
        return scores(summands, tiles, classes)

    monkeypatch.setattr(semantic_labels, '_scores', counted)
    assert_best(semantic_labels.semantic_labels(class_logits, masks), semantic_inference(class_logits, masks))
    assert {5} <= {number for number, _ in queries} <= {5, QUERIES}
    in_full = sum(tiles for number, tiles in queries if number == QUERIES)
    assert in_full < sum(tiles for number, tiles in queries if number == 5) / 2


@pytest.mark.parametrize('size', [1e-5, 5e-4])
def test_many_weak_queries_may_win_together(size):
    """The lead of one class is smaller than what two hundred faint queries add to another one."""
    probs = torch.full((201, 3), size, dtype=torch.float64)
    probs[0] = torch.tensor([0.5, 0.5 - 100 * size, 0])
    probs[1:, 0] = 0
    class_logits = torch.cat([probs, 1 - probs.sum(1, keepdim=True)], 1).log()
    masks = QueryMasks.of_logits(torch.full((201, 8, 8), 9.0, dtype=torch.float64), (32, 32), (32, 32), (32, 32))
    assert (semantic_labels.semantic_labels(class_logits, masks) == 1).all()


def test_without_queries_every_pixel_has_the_first_class():
    masks = QueryMasks.of_logits(torch.zeros(0, 8, 12), (32, 48), (32, 48), (30, 40))
    labels = semantic_labels.semantic_labels(torch.zeros(0, 6), masks)
    assert labels.shape == (30, 40) and labels.dtype == torch.int32 and not labels.any()
