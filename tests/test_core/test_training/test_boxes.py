import math

import pytest
import torch
from helpers import toy
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_convert, generalized_box_iou

from mmmaskformer.core.structures import MaskTarget, Targets
from mmmaskformer.core.training import equations
from mmmaskformer.core.training.boxes import BoxLoss, target_boxes
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import BoxMatcher, FixedMatcher, HungarianMatcher, NonFiniteLogitsError


def make_predictions(**settings):
    """Predictions with boxes that require gradients."""
    generator = torch.Generator().manual_seed(5)
    predictions = toy.make_predictions(dtype=torch.float64, **settings)
    boxes = [
        torch.rand(*prediction.class_logits.shape[:2], 4, generator=generator, dtype=torch.float64).requires_grad_()
        for prediction in predictions
    ]
    return [prediction._replace(boxes_cxcywh=box) for prediction, box in zip(predictions, boxes, strict=True)]


def literal_losses(box, truth):
    """L1 distance and 1 - GIoU of two boxes, with Python floats."""
    (left, top, right, bottom), (true_left, true_top, true_right, true_bottom) = (
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (box, truth)
    )
    width = max(0, min(right, true_right) - max(left, true_left))
    height = max(0, min(bottom, true_bottom) - max(top, true_top))
    union = box[2] * box[3] + truth[2] * truth[3] - width * height
    around = (max(right, true_right) - min(left, true_left)) * (max(bottom, true_bottom) - min(top, true_top))
    giou = width * height / union - (around - union) / around
    return sum(abs(a - b) for a, b in zip(box, truth, strict=True)), 1 - giou


def literal_box(mask):
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    left, right = columns.min() / mask.shape[1], (columns.max() + 1) / mask.shape[1]
    top, bottom = rows.min() / mask.shape[0], (rows.max() + 1) / mask.shape[0]
    return [float(x) for x in ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)]


def make_distinct(count):
    """A target with one segment of a class."""
    return toy.make_target(count)._replace(labels=torch.arange(count))


@pytest.mark.parametrize('overlapping', [False, True])
def test_boxes_are_those_of_the_masks(overlapping):
    targets = [toy.make_target(count, (31, 45), seed=count, ignored=True) for count in (3, 0, 4)]
    targets[0].segment_map[targets[0].segment_map == 1] = 0  # a segment without pixels
    found, present = target_boxes(Targets.of([toy.as_masks(x) for x in targets] if overlapping else targets))
    assert present.tolist() == [True, False, True, True, True, True, True]
    masks = torch.cat([target.all_masks() for target in targets])
    for box, mask, there in zip(found, masks, present, strict=True):
        if there:
            assert box.tolist() == pytest.approx(literal_box(mask), abs=1e-6)


def test_losses_are_those_of_torchvision():
    generator = torch.Generator().manual_seed(1)
    boxes, truth = torch.rand(2, 100, 4, generator=generator, dtype=torch.float64)
    corners = (box_convert(x, 'cxcywh', 'xyxy') for x in (boxes, truth))
    expected = 1 - generalized_box_iou(*corners)
    torch.testing.assert_close(equations.box_losses(boxes[:, None], truth)[1], expected)


def test_losses_in_closed_form():
    unit = torch.tensor([0.5, 0.5, 1.0, 1.0])
    cases = [
        (unit, unit, 0, 0),
        (torch.tensor([0.25, 0.5, 0.5, 1.0]), unit, 0.75, 0.5),  # half of it: IoU 1/2, no gap
        (torch.tensor([0.125, 0.5, 0.25, 1.0]), torch.tensor([0.875, 0.5, 0.25, 1.0]), 0.75, 1.5),  # gap of one half
    ]
    for box, truth, distance, giou in cases:
        found = equations.box_losses(box, truth)
        assert [x.item() for x in found] == pytest.approx([distance, giou])
    generator = torch.Generator().manual_seed(0)
    boxes, truth = torch.rand(2, 50, 4, generator=generator, dtype=torch.float64)
    for row in zip(boxes, truth, *equations.box_losses(boxes, truth), strict=True):
        assert [x.item() for x in row[2:]] == pytest.approx(literal_losses(*(x.tolist() for x in row[:2])))
    points = torch.zeros(4)
    assert all(math.isfinite(x) for x in equations.box_losses(points, points))


def test_matches_are_the_cheapest_by_class_and_box():
    predictions = make_predictions()
    targets = [toy.make_target(4, (31, 45)), toy.make_target(2, (31, 45), seed=1)]
    matches = BoxMatcher()(predictions, targets)
    for layer, prediction in enumerate(predictions):
        for image, target in enumerate(targets):
            probs = prediction.class_logits[image].softmax(-1)
            cost = torch.zeros(7, target.num_segments)
            for segment, mask in enumerate(target.all_masks()):
                for query in range(7):
                    distance, giou = literal_losses(prediction.boxes_cxcywh[image, query].tolist(), literal_box(mask))
                    cost[query, segment] = 5 * distance + 2 * giou - probs[query, target.labels[segment]]
            query, segment = linear_sum_assignment(cost.detach().numpy())
            found = matches.pairs(layer, image)
            assert (found[0].tolist(), found[1].tolist()) == (query.tolist(), segment.tolist())


def test_the_criterion_trains_boxes_when_the_matcher_uses_them():
    predictions, targets = make_predictions(), [toy.make_target(3), toy.make_target(0)]
    criterion = SetCriterion(num_classes=5, matcher=BoxMatcher())
    assert criterion.loss_weights == dict(cls=1, mask=20, dice=1, box=5, giou=2)
    assert criterion.matcher.weights == dict(cls=1, box=5, giou=2)
    losses = criterion(predictions, targets)
    matches = criterion.matcher(predictions, targets)
    for layer, prefix in enumerate(('d0.', '')):
        query, segment = (index.tolist() for index in matches.pairs(layer, 0))
        masks = targets[0].all_masks()
        of_pairs = [
            literal_losses(predictions[layer].boxes_cxcywh[0, q].tolist(), literal_box(masks[s]))
            for q, s in zip(query, segment, strict=True)
        ]
        for name, weight, values in zip(('box', 'giou'), (5, 2), zip(*of_pairs, strict=True), strict=True):
            assert losses[f'{prefix}loss_{name}'].item() == pytest.approx(weight * sum(values) / 3, rel=1e-5)
    sum(losses.values()).backward()
    for layer, prediction in enumerate(predictions):
        matched = matches.pairs(layer, 0)[0].tolist()
        assert prediction.boxes_cxcywh.grad[0].any(1).nonzero().flatten().tolist() == sorted(matched)
        assert not prediction.boxes_cxcywh.grad[1].any()


def test_segments_without_a_pixel_and_batches_without_segments_train_no_box():
    criterion = SetCriterion(num_classes=5, matcher=BoxMatcher())
    empty = MaskTarget(torch.tensor([2]), masks=torch.zeros(1, 32, 48, dtype=torch.bool))
    for targets in ([empty, empty], [toy.make_target(0), toy.make_target(0)]):
        predictions = make_predictions()
        losses = criterion(predictions, targets)
        sum(losses.values()).backward()
        assert losses['loss_box'] == losses['loss_giou'] == 0
        assert all(x.boxes_cxcywh.grad is not None and not x.boxes_cxcywh.grad.any() for x in predictions)


@pytest.mark.parametrize('matcher', [BoxMatcher, HungarianMatcher, lambda: FixedMatcher(num_classes=5)])
@pytest.mark.parametrize('counts', [(3, 2), (0, 0)])
def test_boxes_that_are_not_finite_are_refused(matcher, counts):
    predictions = make_predictions()
    with torch.no_grad():
        predictions[1].boxes_cxcywh[1, 2, 0] = math.nan
    criterion = SetCriterion(num_classes=5, matcher=matcher(), box_loss=BoxLoss())
    with pytest.raises(NonFiniteLogitsError, match=r'layer 2 of 2, image 1 of the batch: inf or NaN in boxes \(1 of '):
        criterion(predictions, [make_distinct(count) for count in counts])


def test_a_network_without_boxes_is_refused():
    with pytest.raises(ValueError, match='by boxes, but the network predicts none. Fix: use MaskClassifier'):
        SetCriterion(num_classes=5, matcher=BoxMatcher())(toy.make_predictions(), [toy.make_target(1)] * 2)
