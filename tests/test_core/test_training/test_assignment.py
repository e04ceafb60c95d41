import pytest
import torch
from helpers import toy

from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.core.training.assignment import FixedAssignment
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import BoxMatcher, FixedMatcher


def target_of(labels, seed=0):
    target = toy.make_target(len(labels), seed=seed)
    return target._replace(labels=torch.tensor(labels, dtype=torch.long))


def test_the_segment_of_a_class_goes_to_its_query_in_every_layer():
    matches = FixedMatcher()(toy.make_predictions(num_queries=5), [target_of([4, 0, 2]), target_of([])])
    for layer in range(2):
        assert [index.tolist() for index in matches.pairs(layer, 0)] == [[0, 2, 4], [1, 2, 0]]
        assert not len(matches.pairs(layer, 1)[0])


def test_queries_of_absent_classes_learn_no_object():
    predictions, targets = toy.make_predictions(num_queries=5, dtype=torch.float64), [target_of([4, 0]), target_of([3])]
    criterion = SetCriterion(num_classes=5, matcher=FixedMatcher())
    losses = criterion(predictions, targets)
    wanted = torch.tensor([[0, 5, 5, 5, 4], [5, 5, 5, 3, 5]])
    weight = torch.tensor([1.0] * 5 + [0.1], dtype=torch.float64)
    for layer, key in enumerate(('d0.loss_cls', 'loss_cls')):
        expected = torch.nn.functional.cross_entropy(
            predictions[layer].class_logits.flatten(0, 1), wanted.flatten(), weight
        )
        torch.testing.assert_close(losses[key], expected)
    sum(losses.values()).backward()
    matched = predictions[1].masks.embed.grad.any(-1)
    assert matched.tolist() == [[True, False, False, False, True], [False, False, False, True, False]]


def test_several_segments_per_class_are_refused():
    predictions = toy.make_predictions(num_queries=4)
    with pytest.raises(ValueError, match='image 1 of the batch has 2 segments of class 3; fixed matching takes one'):
        FixedMatcher()(predictions, [target_of([1]), target_of([3, 0, 3])])
    with pytest.raises(ValueError, match='one query per class, found class 4 and 4 queries. Fix: set num_queries'):
        FixedMatcher()(predictions, [target_of([1]), target_of([4])])
    with pytest.raises(ValueError, match=r'num_queries=100 and num_classes=150. Fix: set num_queries=150'):
        FixedAssignment(num_queries=100, num_classes=150)


@pytest.mark.parametrize('matcher', [FixedMatcher, BoxMatcher])
@pytest.mark.parametrize('part', ['class_logits', 'embed', 'features'])
def test_non_finite_logits_are_named_even_if_no_cost_reads_masks(matcher, part):
    predictions = toy.make_predictions(num_queries=5)
    predictions = [x._replace(boxes_cxcywh=torch.rand(2, 5, 4)) for x in predictions]
    wrong = predictions[1]
    tensor = wrong.class_logits if part == 'class_logits' else getattr(wrong.masks, part)
    tensor.data[1, 2] = float('nan')
    with pytest.raises(NonFiniteLogitsError, match='image 1 of the batch: inf or NaN in'):
        matcher()(predictions, [target_of([1]), target_of([3])])


def test_overlapping_segments_may_be_matched_by_class():
    masks = torch.ones(2, 32, 48, dtype=torch.bool)
    target = MaskTarget(torch.tensor([3, 1]), masks=masks)
    matches = FixedMatcher()(toy.make_predictions(num_queries=5, batch=1), [target])
    assert [index.tolist() for index in matches.pairs(0, 0)] == [[1, 3], [1, 0]]
