"""Weights of classes by name: for the class list that was named last, and for one class each."""

import copy
import pickle

import pytest
import torch
from helpers import toy

from mmmaskformer.core.training.class_weights import ClassWeights


def test_weights_by_name_follow_the_order_of_the_class_list():
    weights = ClassWeights({'b': 2.0, 'd': 0.0}, 4)
    for names, expected in (('abcd', [1, 2, 1, 0]), ('dcba', [0, 1, 2, 1])):
        weights.name_classes(list(names))
        assert weights.values.tolist() == expected
        for copied in (copy.deepcopy(weights), pickle.loads(pickle.dumps(weights))):
            copied.require_names()
            assert torch.equal(copied.values, weights.values)
    assert not weights.state_dict()


def test_a_list_of_weights_does_not_depend_on_names():
    weights = ClassWeights([3.0, 1.0], 2)
    weights.require_names()
    weights.name_classes(['same', 'same'])
    assert weights.values.tolist() == [3, 1]


@pytest.mark.parametrize(
    'names, message',
    [
        ('abc', 'found 3 class names for num_classes=4; expected one per class'),
        ('aacd', r"names the class 'b'; expected one of \['a', 'a', 'c', 'd'\]. The weight of \"no object\""),
        (
            'abcb',
            "names the class 'b', which occurs 2 times in the class list; expected once. Fix: set class_weight to a",
        ),
    ],
)
def test_class_lists_that_do_not_fit_are_refused(names, message):
    weights = ClassWeights({'b': 2.0}, 4)
    with pytest.raises(ValueError, match=message):
        weights.name_classes(list(names))
    with pytest.raises(
        ValueError, match=r"names \['b'\], but the class list is unknown. Fix: .*criterion.name_classes"
    ):
        weights.require_names()


def test_the_loss_waits_for_the_class_list():
    predictions, targets = toy.make_predictions(), [toy.make_target(3), toy.make_target(2)]
    criterion = toy.make_criterion(class_weight={'e': 4.0})
    with pytest.raises(ValueError, match='the class list is unknown'):
        criterion(predictions, targets)
    criterion.name_classes(list('abcde'))
    expected = toy.make_criterion(class_weight=[1.0, 1.0, 1.0, 1.0, 4.0])(predictions, targets)
    torch.testing.assert_close(criterion(predictions, targets), expected)
