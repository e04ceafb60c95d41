import pytest
import torch
from helpers import official, oracles

from mmmaskformer.core.inference.semantic import semantic_inference, semantic_scores


@pytest.mark.parametrize('image', [0, 1])
@pytest.mark.parametrize('order', ['after', 'before'])
def test_scores_and_labels_equal_the_published_ones(image, order):
    reference = official.load('semantic_inference')
    found = semantic_inference(
        reference['pred_logits'][image],
        reference['pred_masks'][image],
        input_size=tuple(reference['padded_size']),
        image_size=tuple(reference['image_sizes'][image]),
        out_size=tuple(reference['out_sizes'][image]),
        resize_masks_first=order == 'before',
    )
    expected = reference[f'sem_seg_resize_{order}'][image]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.argmax(0).to(torch.uint8), reference[f'labels_resize_{order}'][image])


def test_scores_without_resizing_equal_the_published_ones():
    reference = official.load('semantic_inference')['function_only']
    found = semantic_scores(reference['pred_logits'], reference['mask_logits'])
    torch.testing.assert_close(found, reference['sem_seg'], rtol=1e-5, atol=1e-6)


def test_scores_follow_the_equation():
    class_logits, mask_logits = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    scores = semantic_inference(
        class_logits, mask_logits, input_size=(8, 12), image_size=(7, 10), out_size=(5, 21), resize_masks_first=True
    )
    for k in range(2):
        total = torch.zeros(5, 21, dtype=torch.float64)
        for q in range(4):
            padded = oracles.upsample(mask_logits[q], (8, 12))
            probability = oracles.upsample(padded[:7, :10], (5, 21)).sigmoid()
            total += class_logits[q].softmax(-1)[k] * probability
        torch.testing.assert_close(scores[k], total)
