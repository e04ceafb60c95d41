"""Panoptic inference with fixed sizes equals that of the core, which has independent tests."""

import pytest
import torch

from mmmaskformer.core.inference.panoptic import panoptic_inference
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.export.panoptic import fixed_panoptic_inference

IS_THING = torch.tensor([False, True, False, True])
PADDED, SIZE = (16, 24), (13, 21)


def random_logits(seed: int, queries: int = 9):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 4 * torch.randn(3, queries, 5, generator=generator)
    coarse = torch.randn(3, queries, 4, 6, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return class_logits, 4 * coarse


def check(class_logits, mask_logits, **settings):
    inside = torch.zeros(PADDED, dtype=torch.bool)
    inside[: SIZE[0], : SIZE[1]] = True
    found = fixed_panoptic_inference(class_logits, mask_logits, inside, is_thing=IS_THING, **settings)
    counts = []
    for image in range(len(class_logits)):
        masks = QueryMasks.of_logits(mask_logits[image], PADDED, SIZE, SIZE)
        expected = panoptic_inference(class_logits[image], masks, is_thing=IS_THING, **settings)
        count = len(expected.labels)
        assert torch.equal(found.segment_ids[image, : SIZE[0], : SIZE[1]], expected.ids)
        assert found.valid[image].tolist() == [True] * count + [False] * (len(class_logits[image]) - count)
        assert found.labels[image, :count].tolist() == expected.labels.tolist()
        assert torch.equal(found.scores[image, :count], expected.scores)
        assert (found.labels[image, count:] == -1).all() and (found.scores[image, count:] == 0).all()
        counts.append(count)
    return counts


@pytest.mark.parametrize('seed', range(20))
def test_equals_the_core(seed):
    counts = check(*random_logits(seed), object_threshold=0.4, overlap_threshold=0.5)
    assert sum(counts) > 1


def test_defaults_are_those_of_the_core():
    assert sum(sum(check(*random_logits(seed))) for seed in range(5)) > 3


def test_nothing_found():
    class_logits, mask_logits = random_logits(0)
    class_logits[1, :, -1] = 50.0
    assert check(class_logits, mask_logits)[1] == 0


def test_stuff_of_one_class_is_joined_and_things_are_not():
    class_logits, mask_logits = torch.full((1, 4, 5), -20.0), torch.full((1, 4, *PADDED), -20.0)
    for query, label in enumerate((2, 3, 2, 3)):
        class_logits[0, query, label] = 20.0
        mask_logits[0, query, :, 6 * query : 6 * query + 6] = 20.0
    assert check(class_logits, mask_logits) == [3]


def test_no_mask_anywhere_still_chooses_a_confident_query():
    """Every mask probability underflows to 0; the first query is not confident and must not win the tie."""
    class_logits, mask_logits = random_logits(3)
    class_logits[:, 0, -1] = 50.0
    mask_logits[:] = -200.0
    mask_logits[:, 1:, :2] = 5.0
    check(class_logits, mask_logits, object_threshold=0.3, overlap_threshold=0.0)


def test_one_query():
    class_logits, mask_logits = random_logits(1, queries=1)
    class_logits[:, :, 1] = 30.0
    assert check(class_logits, mask_logits, overlap_threshold=0.1) == [1, 1, 1]
