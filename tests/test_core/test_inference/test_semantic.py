import pytest
import torch
from helpers import official, oracles

from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import general_scores, semantic_inference, semantic_scores
from mmmaskformer.core.masks import Plain


@pytest.mark.parametrize('image', [0, 1])
@pytest.mark.parametrize('order', ['after', 'before'])
def test_scores_and_labels_equal_the_published_ones(image, order):
    reference = official.load('semantic_inference')
    masks = QueryMasks.of_logits(
        reference['pred_masks'][image],
        input_size=tuple(reference['padded_size']),
        image_size=tuple(reference['image_sizes'][image]),
        out_size=tuple(reference['out_sizes'][image]),
    )
    found = semantic_inference(reference['pred_logits'][image], masks, resize_masks_first=order == 'before')
    expected = reference[f'sem_seg_resize_{order}'][image]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.argmax(0).to(torch.uint8), reference[f'labels_resize_{order}'][image])


def test_scores_without_resizing_equal_the_published_ones():
    reference = official.load('semantic_inference')['function_only']
    found = semantic_scores(reference['pred_logits'], reference['mask_logits'])
    torch.testing.assert_close(found, reference['sem_seg'], rtol=1e-5, atol=1e-6)


def test_scores_follow_the_equation():
    class_logits, mask_logits = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    masks = QueryMasks.of_logits(mask_logits, input_size=(8, 12), image_size=(7, 10), out_size=(5, 21))
    scores = semantic_inference(class_logits, masks, resize_masks_first=True)
    for k in range(2):
        total = torch.zeros(5, 21, dtype=torch.float64)
        for q in range(4):
            padded = oracles.upsample(mask_logits[q], (8, 12))
            probability = oracles.upsample(padded[:7, :10], (5, 21)).sigmoid()
            total += class_logits[q].softmax(-1)[k] * probability
        torch.testing.assert_close(scores[k], total)


@pytest.mark.parametrize('resize_masks_first', [True, False])
def test_a_mirrored_view_gives_scores_mirrored_back(resize_masks_first):
    class_logits, mask_logits = torch.randn(4, 3), torch.randn(4, 2, 3)
    plain = QueryMasks.of_logits(mask_logits, (8, 12), (8, 12), (5, 21))
    mirrored = plain._replace(masks=Plain(mask_logits[None].flip(-1)), flipped=True)
    found, expected = (
        semantic_inference(class_logits, masks, resize_masks_first=resize_masks_first) for masks in (mirrored, plain)
    )
    torch.testing.assert_close(found, expected)


def test_half_precision_scores_are_computed_in_float32():
    class_logits, mask_logits = torch.randn(4, 3), torch.randn(4, 2, 3)
    masks = QueryMasks.of_logits(mask_logits.half(), (8, 12), (8, 12), (5, 21))
    found = semantic_inference(class_logits, masks)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, semantic_inference(class_logits, masks._replace(masks=Plain(mask_logits[None]))),
                               rtol=1e-2, atol=1e-2)  # fmt: skip


def test_general_scores_are_those_of_the_best_confident_query_of_a_class():
    class_logits, mask_logits = 3 * torch.randn(9, 4), torch.randn(9, 2, 3)
    found = general_scores(class_logits, mask_logits, object_threshold=0.5)
    probs = class_logits.softmax(-1)
    for k in range(3):
        votes = [
            probs[q, k] * mask_logits[q].sigmoid() for q in range(9) if probs[q].argmax() == k and probs[q, k] > 0.5
        ]
        expected = torch.stack(votes).amax(0) if votes else torch.zeros(2, 3)
        torch.testing.assert_close(found[k], expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_hundred_queries_are_summed_in_float32(dtype):
    class_logits, mask_logits = (x.to(dtype) for x in (torch.randn(100, 4), torch.randn(100, 2, 3)))
    found = semantic_scores(class_logits, mask_logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), semantic_scores(class_logits.double(), mask_logits.double()),
                               rtol=1e-5, atol=0)  # fmt: skip
    assert general_scores(class_logits, mask_logits, 0.1).dtype == torch.float32
