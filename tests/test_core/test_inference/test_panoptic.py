import pytest
import torch
from helpers import official

from mmmaskformer.core.inference import query_masks
from mmmaskformer.core.inference.panoptic import general_inference, panoptic_inference
from mmmaskformer.core.inference.query_masks import QueryMasks

CASES = (
    'coco_thresholds', 'ade_thresholds', 'zero_thresholds', 'nothing_passes', 'one_segment',
    'stuff_filtered_then_kept', 'partly_hidden', 'all_things',
)  # fmt: skip


@pytest.fixture(scope='module')
def reference():
    return official.load('panoptic_inference')['cases']


def masks_of(case):
    sizes = (tuple(case[key]) for key in ('padded_size', 'image_size', 'out_size'))
    return QueryMasks.of_logits(case['pred_masks'], *sizes)


def things_of(case):
    is_thing = torch.zeros(case['num_classes'], dtype=torch.bool)
    is_thing[case['thing_ids']] = True
    return is_thing


def plain_panoptic(class_logits, logits, is_thing, object_threshold, overlap_threshold):
    """The published rule, segment by segment: panoptic map, and (label, score) of the segments."""
    probs = class_logits.softmax(-1)
    num_classes = class_logits.shape[1] - 1
    kept = [q for q in range(len(probs)) if probs[q].argmax() != num_classes and probs[q].max() > object_threshold]
    result, segments, stuff = torch.zeros(logits.shape[1:], dtype=torch.int32), [], {}
    if not kept:
        return result, segments
    sigmoid = logits[kept].sigmoid()
    winner = (sigmoid * torch.stack([probs[q].max() for q in kept])[:, None, None]).argmax(0)
    for n, q in enumerate(kept):
        label, won, own = int(probs[q].argmax()), winner == n, sigmoid[n] >= 0.5
        if not won.any() or not own.any() or won.sum().item() / own.sum().item() < overlap_threshold:
            continue
        if not is_thing[label] and label in stuff:
            result[won] = stuff[label]
            continue
        segments.append((label, float(probs[q].max())))
        result[won] = len(segments)
        if not is_thing[label]:
            stuff[label] = len(segments)
    return result, segments


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('limit', [1, 10**9])
def test_segments_equal_the_published_ones(reference, name, limit, monkeypatch):
    monkeypatch.setitem(query_masks.CHUNK_ELEMENTS, 'cpu', limit)
    case = reference[name]
    found = panoptic_inference(
        case['pred_logits'],
        masks_of(case),
        is_thing=things_of(case),
        object_threshold=case['object_mask_threshold'],
        overlap_threshold=case['overlap_threshold'],
    )
    assert found.ids.dtype == torch.int32
    assert torch.equal(found.ids, case['panoptic_seg'])
    assert found.labels.tolist() == [segment['category_id'] for segment in case['segments_info']]
    assert len(found.scores) == len(found.labels)


@pytest.mark.parametrize('seed', range(20))
def test_random_outputs_follow_the_published_rule(seed):
    generator = torch.Generator().manual_seed(seed)
    num_classes, num_queries = 5, 1 + seed
    class_logits = 4 * torch.randn(num_queries, num_classes + 1, generator=generator, dtype=torch.float64)
    logits = 3 * torch.randn(num_queries, 4, 5, generator=generator, dtype=torch.float64)
    masks = QueryMasks.of_logits(logits, (16, 20), (15, 18), (11, 25))
    is_thing = torch.tensor([False, True, False, True, False])
    found = panoptic_inference(
        class_logits, masks, is_thing=is_thing, object_threshold=0.4, overlap_threshold=0.1 * (seed % 8)
    )
    expected, segments = plain_panoptic(class_logits, masks.logits(), is_thing, 0.4, 0.1 * (seed % 8))
    assert torch.equal(found.ids, expected)
    assert found.labels.tolist() == [label for label, _ in segments]
    torch.testing.assert_close(found.scores.tolist(), [score for _, score in segments])


def test_general_inference_gives_every_pixel_the_class_of_its_segment():
    torch.manual_seed(0)
    class_logits, logits = 3 * torch.randn(9, 5), 3 * torch.randn(9, 6, 7)
    masks = QueryMasks.of_logits(logits, (6, 7), (6, 7), (6, 7))
    found = general_inference(class_logits, masks, object_threshold=0.5, overlap_threshold=0.5)
    ids, segments = plain_panoptic(class_logits, logits, torch.zeros(4, dtype=torch.bool), 0.5, 0.5)
    expected = torch.tensor([4] + [label for label, _ in segments])[ids.long()]
    assert torch.equal(found, expected) and found.dtype == torch.int64


def test_general_inference_of_nothing_is_no_object_everywhere():
    masks = QueryMasks.of_logits(torch.zeros(2, 3, 4), (3, 4), (3, 4), (6, 8))
    found = general_inference(torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]]), masks)
    assert found.shape == (6, 8) and (found == 2).all()
