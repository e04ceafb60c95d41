import pytest
import torch
from torchvision.ops import masks_to_boxes

from mmmaskformer.core.inference import query_masks
from mmmaskformer.core.inference.instance import boxes_of, instance_inference
from mmmaskformer.core.inference.query_masks import QueryMasks


@pytest.mark.parametrize('limit', [1, 10**9])
@pytest.mark.parametrize('max_per_image', [3, 12, 100])
def test_instances_equal_a_loop_over_pairs(monkeypatch, limit, max_per_image):
    monkeypatch.setitem(query_masks.CHUNK_ELEMENTS, 'cpu', limit)
    torch.manual_seed(0)
    class_logits, logits = torch.randn(6, 5), 3 * torch.randn(6, 7, 9)
    is_thing = torch.tensor([True, False, True, True])
    masks = QueryMasks.of_logits(logits, (7, 9), (7, 9), (7, 9))
    found = instance_inference(class_logits, masks, is_thing=is_thing, max_per_image=max_per_image)
    probs = class_logits.softmax(-1)[:, :-1]
    pairs = sorted(((float(probs[q, k]), q, k) for q in range(6) for k in range(4)), reverse=True)[:max_per_image]
    pairs = [pair for pair in pairs if is_thing[pair[2]]]
    assert found.labels.tolist() == [k for _, _, k in pairs]
    for row, (score, query, _) in enumerate(pairs):
        inside = logits[query] > 0
        assert torch.equal(found.masks[row], inside)
        sureness = (logits[query].sigmoid() * inside).sum() / (inside.sum() + 1e-6)
        torch.testing.assert_close(found.scores[row], score * sureness)


def test_boxes_touch_their_masks():
    torch.manual_seed(0)
    masks = torch.rand(9, 11, 13) > 0.9
    masks[:, 0, 0] |= ~masks.flatten(1).any(1)
    inclusive = masks_to_boxes(masks)
    assert torch.equal(boxes_of(masks), inclusive + torch.tensor([0, 0, 1, 1]))


def test_an_empty_mask_has_a_box_and_a_score_of_zero():
    assert torch.equal(boxes_of(torch.zeros(1, 4, 5, dtype=torch.bool)), torch.zeros(1, 4))
    masks = QueryMasks.of_logits(torch.full((1, 4, 5), -1.0), (4, 5), (4, 5), (4, 5))
    found = instance_inference(torch.tensor([[5.0, 0.0]]), masks, is_thing=torch.tensor([True]))
    assert found.scores.tolist() == [0.0] and not found.masks.any()


def test_without_things_there_are_no_instances():
    masks = QueryMasks.of_logits(torch.randn(3, 4, 5), (8, 10), (8, 10), (6, 7))
    found = instance_inference(torch.randn(3, 3), masks, is_thing=torch.tensor([False, False]))
    assert found.masks.shape == (0, 6, 7) and found.boxes_xyxy.shape == (0, 4)


def test_the_score_threshold_removes_weak_pairs():
    torch.manual_seed(0)
    masks = QueryMasks.of_logits(torch.randn(5, 4, 5), (4, 5), (4, 5), (4, 5))
    class_logits, is_thing = torch.randn(5, 4), torch.ones(3, dtype=torch.bool)
    every = instance_inference(class_logits, masks, is_thing=is_thing)
    some = instance_inference(class_logits, masks, is_thing=is_thing, score_threshold=0.3)
    count = int((class_logits.softmax(-1)[:, :-1] > 0.3).sum())
    assert 0 < count < len(every.scores)
    assert torch.equal(some.scores, every.scores[:count]) and torch.equal(some.masks, every.masks[:count])


def test_a_score_at_the_threshold_is_removed():
    masks = QueryMasks.of_logits(torch.ones(1, 4, 5), (4, 5), (4, 5), (4, 5))
    settings = dict(class_logits=torch.zeros(1, 2), masks=masks, is_thing=torch.tensor([True]))
    assert len(instance_inference(**settings, score_threshold=0.5).labels) == 0
    assert len(instance_inference(**settings, score_threshold=0.49).labels) == 1
