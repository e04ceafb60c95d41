import pytest
import torch

from mmmaskformer.core.inference.panoptic import panoptic_inference
from mmmaskformer.core.inference.pooling import SegmentPool
from mmmaskformer.core.inference.query_masks import QueryMasks

IS_THING = torch.tensor([False, True, True])
SIZE = (8, 12)


def view(*segments, strength=6.0):
    """Predictions of a view from (label, score, top, left, bottom, right) of segments; later ones are on top."""
    class_logits = torch.full((len(segments), 4), -20.0)
    logits = torch.full((len(segments), *SIZE), -strength)
    for query, (label, score, top, left, bottom, right) in enumerate(segments):
        class_logits[query, label] = torch.tensor(score).log()
        class_logits[query, 3] = torch.tensor(1 - score).log()
        logits[:query, top:bottom, left:right] = -strength
        logits[query, top:bottom, left:right] = strength
    return class_logits, QueryMasks.of_logits(logits, SIZE, SIZE, SIZE)


def pooled(*views, **settings):
    pool = SegmentPool(is_thing=IS_THING, **settings)
    for class_logits, masks in views:
        pool.add(class_logits, masks)
    return pool.result().compact()


STUFF = (0, 0.9, 0, 0, 8, 12)


@pytest.mark.parametrize('times', [1, 3])
@pytest.mark.parametrize('seed', range(5))
def test_equal_views_give_the_result_of_one(times, seed):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 6 * torch.eye(4)[torch.randint(0, 4, (9,), generator=generator)]
    class_logits += torch.randn(9, 4, generator=generator)
    # Every query has a fixed position; views do not drop queries without a segment, which would change the competition.
    owner = torch.cat([torch.arange(9), torch.randint(0, 9, (15,), generator=generator)])
    owner = owner[torch.randperm(24, generator=generator)].view(4, 6)
    coarse = 8.0 * (owner == torch.arange(9)[:, None, None]) - 4 + torch.randn(9, 4, 6, generator=generator)
    masks = QueryMasks.of_logits(coarse, SIZE, SIZE, SIZE)
    settings = dict(object_threshold=0.6, overlap_threshold=0.0)
    expected = panoptic_inference(class_logits, masks, is_thing=IS_THING, **settings)
    found = pooled(*[(class_logits, masks)] * times, **settings)
    assert len(expected.labels) > 2
    assert sorted(found.labels.tolist()) == sorted(expected.labels.tolist())
    pairs = torch.stack([found.ids, expected.ids], -1).flatten(0, 1).unique(dim=0)
    assert len(pairs) == len(expected.labels), 'the same segments, numbered otherwise'


def test_a_segment_that_a_view_misses_is_kept_if_enough_views_have_it():
    with_ball, without = view(STUFF, (1, 0.96, 2, 2, 6, 6)), view(STUFF)
    found = pooled(with_ball, with_ball, without)
    assert sorted(found.labels.tolist()) == [0, 1]
    torch.testing.assert_close(float(found.scores[found.labels == 1]), 0.64)
    assert pooled(with_ball, without, without).labels.tolist() == [0]


def test_the_pixels_of_a_thing_are_those_of_the_mean_mask():
    views = [view(STUFF, (1, 0.96, 2, 2, 6, right)) for right in (5, 6, 6)]
    found = pooled(*views)
    thing = found.ids == 1 + found.labels.tolist().index(1)
    assert thing[2:6, 2:6].all() and thing.sum() == 16


def test_separate_things_and_classes_are_not_merged():
    one = view((1, 0.9, 0, 0, 8, 4), (1, 0.9, 0, 4, 8, 8), (2, 0.9, 0, 8, 8, 12))
    other = view((2, 0.9, 0, 8, 8, 12), (1, 0.9, 0, 4, 8, 8), (1, 0.9, 0, 0, 8, 4))
    found = pooled(one, other)
    assert found.labels.tolist().count(1) == 2 and found.labels.tolist().count(2) == 1
    assert len(found.ids.unique()) == 3
    torch.testing.assert_close(found.scores, torch.full((3,), 0.9))


def test_a_thing_in_another_place_is_another_thing():
    found = pooled(view((1, 0.96, 0, 0, 4, 4)), view((1, 0.96, 4, 4, 8, 8)))
    assert found.labels.tolist() == [1, 1]


def test_stuff_in_two_places_is_one_segment():
    found = pooled(view((0, 0.9, 0, 0, 8, 6)), view((0, 0.9, 0, 6, 8, 12)))
    assert found.labels.tolist() == [0]


def test_nothing_in_any_view_is_void():
    nothing = view((1, 0.5, 0, 0, 4, 4))
    found = pooled(nothing, nothing)
    assert found.ids.shape == SIZE and not found.ids.any() and not len(found.labels)


def test_a_pool_without_views_is_refused():
    with pytest.raises(RuntimeError, match='no views'):
        SegmentPool(is_thing=IS_THING).result()


def test_a_first_view_without_segments_does_not_matter():
    nothing, something = view((1, 0.5, 0, 0, 4, 4)), view(STUFF)
    assert pooled(nothing, something, something).labels.tolist() == [0]


@pytest.mark.parametrize('right, num_things', [(4, 2), (5, 1)])
def test_things_that_overlap_by_more_than_half_are_one(right, num_things):
    # Areas of 8 x 4 and 8 x 5 within 8 x 8 give IoUs of 0.5 and 0.625.
    pool = SegmentPool(is_thing=IS_THING)
    for one in (view((1, 0.96, 0, 0, 8, 8)), view((1, 0.96, 0, 0, 8, right))):
        pool.add(*one)
    assert pool.labels.tolist() == [1] * num_things


@pytest.mark.parametrize('threshold, labels', [(0.25, []), (0.24, [0])])
def test_a_pooled_segment_must_have_more_than_half_of_the_threshold(threshold, labels):
    nothing, (class_logits, masks) = view((1, 0.1, 0, 0, 4, 4)), view(STUFF)
    class_logits = torch.tensor([[0.0, -200, -200, 0]])  # probability 1 / 2, in one of four views
    assert pooled((class_logits, masks), *[nothing] * 3, object_threshold=threshold).labels.tolist() == labels


def test_views_may_be_of_double_precision():
    views = [view(STUFF, (1, 0.96, 2, 2, 6, 6)), view(STUFF)]
    wide = [(x.double(), QueryMasks.of_logits(masks.logits().double(), SIZE, SIZE, SIZE)) for x, masks in views]
    found, expected = pooled(*wide), pooled(*views)
    assert found.scores.dtype == torch.float64 and torch.equal(found.ids, expected.ids)
    torch.testing.assert_close(found.scores.float(), expected.scores)
