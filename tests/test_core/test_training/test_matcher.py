import numpy as np
import pytest
import torch
from helpers import oracles, toy

from mmmaskformer.core.masks import Product
from mmmaskformer.core.numerics import NonFiniteLogitsError
from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.core.training.matcher import HungarianMatcher
from mmmaskformer.core.upsampling import sample_nearest


def slow_cost(prediction, target, image):
    """The cost of the paper, computed pair by pair."""
    small = sample_nearest(target.all_masks(), prediction.masks.size)
    class_probs = prediction.class_logits[image].softmax(-1)
    cost = torch.zeros(prediction.num_queries, target.num_segments, dtype=torch.float64)
    for q, logits in enumerate(prediction.mask_logits(image)):
        for m in range(target.num_segments):
            mask, probability = small[m], logits.sigmoid()
            cost[q, m] += 20 * oracles.focal(probability, mask).mean() + oracles.dice(probability, mask)
            cost[q, m] -= class_probs[q, target.labels[m]]
    return cost


def pairs_of(match):
    return {(int(q), int(t)) for q, t in zip(*match, strict=True)}


@pytest.mark.parametrize('num_queries, num_segments', [(5, 3), (3, 5), (1, 1), (1, 3), (4, 4)])
@pytest.mark.parametrize('overlapping', [False, True])
@pytest.mark.filterwarnings('ignore:an image has')
def test_matches_are_the_cheapest_of_all(num_queries, num_segments, overlapping):
    predictions = toy.make_predictions(num_queries=num_queries, dtype=torch.float64)
    targets = [toy.make_target(num_segments, seed=seed) for seed in range(2)]
    matches = HungarianMatcher()(predictions, [toy.as_masks(t) for t in targets] if overlapping else targets)
    for layer, prediction in enumerate(predictions):
        for image, target in enumerate(targets):
            expected = oracles.best_assignment(slow_cost(prediction, target, image).detach())
            assert pairs_of(matches.pairs(layer, image)) == expected
            query_idx = matches.pairs(layer, image)[0]
            assert torch.equal(query_idx, query_idx.sort()[0])


def test_order_of_segments_does_not_matter():
    predictions = toy.make_predictions(batch=1, dtype=torch.float64)
    target = toy.as_masks(toy.make_target(5))
    order = torch.tensor([3, 1, 4, 0, 2])
    shuffled = MaskTarget(target.labels[order], masks=target.masks[order])
    query_idx, target_idx = HungarianMatcher()(predictions, [target]).pairs(0, 0)
    shuffled_query_idx, shuffled_target_idx = HungarianMatcher()(predictions, [shuffled]).pairs(0, 0)
    assert torch.equal(query_idx, shuffled_query_idx) and torch.equal(target_idx, order[shuffled_target_idx])


@pytest.mark.filterwarnings('error')
def test_too_few_queries_are_reported_once():
    matcher = HungarianMatcher()
    predictions, targets = toy.make_predictions(num_queries=2, batch=1), [toy.make_target(3)]
    with pytest.warns(UserWarning, match='3 segments but the model only 2 queries.*set num_queries to at least 3'):
        matches = matcher(predictions, targets)
    assert len(matches.pairs(0, 0)[0]) == 2
    matcher(predictions, targets)


@pytest.mark.parametrize(
    'part, named',
    [('class_logits', 'class logits'), ('embed', 'mask embeddings'), ('features', 'mask features')],
)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_non_finite_logits_name_layer_image_and_part(part, named, value):
    predictions = toy.make_predictions(num_layers=3)
    with torch.no_grad():
        (predictions[1].class_logits if part == 'class_logits' else getattr(predictions[1].masks, part))[1, 0, 0] = (
            value
        )
    layer = 1 if part == 'features' else 2
    with pytest.raises(
        NonFiniteLogitsError, match=rf'decoder layer {layer} of 3, image 1.*{named} \(\d+ of.*Fix: lower'
    ):
        HungarianMatcher()(predictions, [toy.make_target(3), toy.make_target(2)])


def test_non_finite_logits_are_found_in_images_without_segments():
    predictions = toy.make_predictions()
    with torch.no_grad():
        predictions[0].class_logits[1, 0, 0] = float('nan')
    with pytest.raises(NonFiniteLogitsError, match='decoder layer 1 of 2, image 1.*class logits'):
        HungarianMatcher()(predictions, [toy.make_target(3), toy.make_target(0)])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_large_logits_stay_finite(dtype):
    predictions = toy.make_predictions(size=(64, 64))
    features = predictions[0].masks.features.to(dtype)
    predictions = [p._replace(masks=Product((p.masks.embed * 6).to(dtype), features)) for p in predictions]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        matches = HungarianMatcher()(predictions, [toy.make_target(5), toy.make_target(5)])
    upcast = [p._replace(masks=Product(p.masks.embed.double(), features.double())) for p in predictions]
    expected = HungarianMatcher()(upcast, [toy.make_target(5), toy.make_target(5)])
    assert all(np.array_equal(found, wanted) for found, wanted in zip(matches, expected, strict=True))
