import pytest
import torch

from mmmaskformer.core.inference.detr import detr_inference
from mmmaskformer.core.inference.query_masks import QueryMasks


def plain_detr(class_logits, logits, is_thing, object_threshold, min_area):
    """DETR's rule step by step: softmax over masks, join stuff, remove small segments until all are large enough."""
    probs = class_logits.softmax(-1)
    no_object = class_logits.shape[1] - 1
    kept = [q for q in range(len(probs)) if probs[q].argmax() != no_object and probs[q].max() > object_threshold]
    while kept:
        pixels = logits[kept].softmax(0).argmax(0)
        labels = [int(probs[q].argmax()) for q in kept]
        for n, label in enumerate(labels):
            if not is_thing[label]:
                pixels[pixels == n] = labels.index(label)
        areas = [int((pixels == n).sum()) for n in range(len(kept))]
        small = [area < min_area for area in areas]
        if not any(small):
            return pixels + 1, labels
        kept = [q for q, out in zip(kept, small, strict=True) if not out]
    return torch.zeros(logits.shape[1:], dtype=torch.long), []


@pytest.mark.parametrize('seed', range(20))
def test_random_outputs_follow_the_rule(seed):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 4 * torch.randn(1 + seed, 6, generator=generator, dtype=torch.float64)
    logits = 5 * torch.randn(1 + seed, 4, 5, generator=generator, dtype=torch.float64)
    masks = QueryMasks.of_logits(logits, (12, 15), (12, 15), (12, 15))
    is_thing = torch.tensor([False, True, False, True, False])
    min_area = 5 * (seed % 5)
    found = detr_inference(class_logits, masks, is_thing=is_thing, object_threshold=0.4, min_area=min_area)
    expected, labels = plain_detr(class_logits, masks.logits(), is_thing, 0.4, min_area)
    assert torch.equal(found.ids, expected.to(torch.int32))
    assert found.labels.tolist() == labels


def test_no_pixel_is_void_where_a_query_is_confident():
    masks = QueryMasks.of_logits(torch.full((1, 3, 4), -9.0), (3, 4), (3, 4), (3, 4))
    found = detr_inference(torch.tensor([[9.0, 0.0]]), masks, is_thing=torch.tensor([True]))
    assert (found.ids == 1).all() and found.labels.tolist() == [0]


def test_nothing_confident_is_void():
    masks = QueryMasks.of_logits(torch.zeros(1, 3, 4), (3, 4), (3, 4), (6, 8))
    found = detr_inference(torch.tensor([[0.0, 9.0]]), masks, is_thing=torch.tensor([True]))
    assert found.ids.shape == (6, 8) and not found.ids.any() and not len(found.labels)
