"""User-defined parts: each takes one class, one registration and one config entry, in both hosts."""

from importlib import import_module

import pytest
import torch
from helpers import hosts, oracles, toy
from torch import nn
from torch.nn import functional as F

from mmmaskformer.core.contracts import PixelDecoderOutput
from mmmaskformer.core.masks import Plain, Product
from mmmaskformer.core.matches import Matches
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher, NonFiniteLogitsError, SetMatcher
from mmmaskformer.core.training.parts import Cost, MaskLoss
from mmmaskformer.registry import MODELS


@MODELS.register_module()
class FinishedPixelDecoder(nn.Module):
    """Computes its mask features by up-sampling the sum of all levels."""

    def __init__(self, in_channels, mask_channels):
        super().__init__()
        self.memory_channels = in_channels[-1]
        self.convs = nn.ModuleList(nn.Conv2d(width, mask_channels, 1) for width in in_channels)

    def forward(self, features):
        size = features[0].shape[2:]
        maps = [F.interpolate(conv(x), size=size) for conv, x in zip(self.convs, features, strict=True)]
        return PixelDecoderOutput(features[-1], sum(maps).relu())


@MODELS.register_module()
class MatcherInOrder(nn.Module):
    """Assigns segment i to query i; receives the number of queries."""

    def __init__(self, num_queries):
        super().__init__()
        self.num_queries = num_queries

    def forward(self, layers, targets):
        pairs = [(range(min(count, self.num_queries)),) * 2 for count in targets.counts]
        return Matches.of([pairs] * len(layers.class_logits))


@MODELS.register_module()
class AssignmentByClass:
    """Assigns a segment to the query of its class; receives the number of queries and needs no costs."""

    uses_costs = False

    def __init__(self, num_queries):
        self.num_queries = num_queries

    def __call__(self, costs, targets):
        assert costs.shape[2:] == (self.num_queries, max(targets.counts)) and not costs.any()
        pairs = [
            [(q, m) for q in range(self.num_queries) for m in (t.labels == q).nonzero()[:1, 0].tolist()]
            for t in targets
        ]
        columns = [tuple(zip(*image, strict=True)) or ((), ()) for image in pairs]
        return Matches.of([columns] * len(costs))


@MODELS.register_module()
class GreedyAssignment:
    """Assigns to each segment in turn the cheapest remaining query."""

    uses_costs = True
    per_segment = 1

    def __call__(self, costs, targets):
        def pairs(cost, count):
            taken = []
            for segment in range(count):
                order = cost[:, segment].argsort().tolist()
                taken += [query for query in order if query not in taken][: self.per_segment]
            return taken, torch.arange(count).repeat_interleave(self.per_segment)[: len(taken)]

        return Matches.of([[pairs(*of_image) for of_image in zip(x, targets.counts, strict=True)] for x in costs])


@MODELS.register_module()
class CheapestTwo(GreedyAssignment):
    """Assigns each segment in turn to the two cheapest remaining queries: one-to-many matching."""

    per_segment = 2


@MODELS.register_module()
class FavouriteQuery(Cost):
    """Query q is cheap for segment (favourite + m) modulo Q."""

    names = ('favourite',)

    def __init__(self, num_queries, favourite=0):
        super().__init__()
        self.num_queries, self.favourite = num_queries, favourite

    def forward(self, layers, targets):
        wanted = (torch.arange(max(targets.counts)) + self.favourite) % self.num_queries
        cost = (torch.arange(self.num_queries)[:, None] != wanted).float()
        return (cost.expand(*layers.class_logits.shape[:2], -1, -1),)


@MODELS.register_module()
class AbsoluteLoss(MaskLoss):
    """Mean absolute error of the mask probability."""

    names = ('l1',)

    def forward(self, mask_logits, targets, pairs):
        masks = targets.masks_of(*pairs)
        logits = F.interpolate(mask_logits[:, None], size=targets.size, mode='bilinear')[:, 0]
        return ((logits.sigmoid() - masks.float()).abs().mean((1, 2)),)


@MODELS.register_module()
class OwnFeaturesNetwork(nn.Module):
    """A network whose layers have their own mask features, one per level of the backbone."""

    def __init__(self, in_channels, num_classes, num_queries, channels):
        super().__init__()
        self.queries = nn.Embedding(num_queries, channels)
        self.class_embed = nn.Linear(channels, num_classes + 1)
        self.convs = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)

    def forward(self, features, *, all_layers):
        levels = list(zip(self.convs, features, strict=True))[::-1] if all_layers else [(self.convs[0], features[0])]
        predictions = []
        for conv, x in levels:
            x = F.interpolate(conv(x), size=features[0].shape[2:])
            embed = self.queries.weight + x.mean((2, 3))[:, None]
            predictions.append(MaskPrediction(self.class_embed(embed), Product(embed, x)))
        return predictions


def losses_of(host: str, **head):
    """A host's model, the losses of a training step after their backward pass, and a prediction."""
    if host == 'mmseg':
        model, samples = hosts.make_segmentor(**head), [hosts.make_sample((64, 96), seed=i) for i in range(2)]
    else:
        model = hosts.make_detector(dict(panoptic=dict(object_threshold=0.0)), **head)
        samples = [hosts.make_panoptic_sample((64, 96), seed=i) for i in range(2)]
    data = dict(inputs=[image for image, _ in samples], data_samples=[sample for _, sample in samples])
    model.train()
    losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    model.parse_losses(losses)[0].backward()
    model.eval()
    with torch.no_grad():
        result = model.test_step(data)[0]
    found = result.pred_sem_seg.data if host == 'mmseg' else result.pred_panoptic_seg.sem_seg
    assert tuple(found.shape) == (1, 64, 96)
    return model, model.decode_head if host == 'mmseg' else model.panoptic_head, losses


BOTH = pytest.mark.parametrize('host', ['mmseg', 'mmdet'])


def assert_trained(part: nn.Module):
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in part.parameters())


@BOTH
def test_a_pixel_decoder_with_finished_features(host):
    _, head, _ = losses_of(host, pixel_decoder=dict(type='FinishedPixelDecoder'))
    assert isinstance(head.classifier.pixel_decoder, FinishedPixelDecoder)
    assert_trained(head.classifier.pixel_decoder)


@BOTH
def test_a_fixed_matcher_gets_no_costs(host):
    _, head, losses = losses_of(host, matcher=dict(type='MatcherInOrder'))
    assert head.criterion.matcher.num_queries == 7
    assert all(torch.isfinite(loss) for loss in losses.values())


@BOTH
def test_a_matching_cost(host):
    cost = dict(type='FavouriteQuery', favourite=2)
    matcher = dict(
        type='mmmaskformer.HungarianMatcher', costs=[dict(type='ClassCost'), cost], weights=dict(favourite=9)
    )
    _, head, _ = losses_of(host, matcher=matcher)
    assert head.criterion.matcher.weights == dict(cls=1.0, favourite=9.0)
    assert head.criterion.matcher.costs[1].num_queries == 7


@BOTH
@pytest.mark.parametrize(
    'assignment, num_costs', [('AssignmentByClass', 0), ('GreedyAssignment', 2), ('CheapestTwo', 2)]
)
def test_an_assignment(host, assignment, num_costs):
    _, head, losses = losses_of(host, matcher=dict(type='SetMatcher', assignment=dict(type=assignment)))
    assert type(head.criterion.matcher.assignment).__name__ == assignment
    assert len(head.criterion.matcher.costs) == num_costs
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert_trained(head.classifier.mask_embed)


def test_the_pairs_of_an_assignment_are_those_that_are_trained():
    predictions, target = toy.make_predictions(num_queries=6, batch=1, dtype=torch.float64), toy.make_target(3)
    by_class = SetMatcher(assignment=AssignmentByClass(6))(predictions, [target])
    for layer in range(len(predictions)):
        query, segment = by_class.pairs(layer, 0)
        assert torch.equal(query, target.labels[segment]) and len(query) == len(target.labels.unique())
    criterion = SetCriterion(num_classes=5, matcher=SetMatcher(assignment=AssignmentByClass(6)))
    for key, value in oracles.set_loss(predictions, [target], by_class).items():
        torch.testing.assert_close(criterion(predictions, [target])[key], value)


def test_costs_that_an_assignment_does_not_use_are_refused():
    with pytest.raises(ValueError, match=r'matcher.costs: found 1, but AssignmentByClass uses none. Fix: leave'):
        SetMatcher(assignment=AssignmentByClass(6), costs=[FavouriteQuery(6)])
    with pytest.raises(ValueError, match=r'matcher.costs: found 0, but GreedyAssignment uses costs'):
        SetMatcher(assignment=GreedyAssignment(), costs=[])


@BOTH
def test_a_mask_loss(host):
    criterion = dict(type='SetCriterion', mask_loss=dict(type='AbsoluteLoss'), loss_weights=dict(l1=3.0))
    _, head, losses = losses_of(host, criterion=criterion)
    assert {key.rpartition('.')[2] for key in losses} == {'loss_cls', 'loss_l1'}
    assert head.criterion.matcher.weights == dict(cls=1.0, mask=20.0, dice=1.0)
    assert_trained(head.classifier.mask_embed)


@BOTH
@pytest.mark.parametrize('prefix', ['', 'host.'])
def test_a_part_may_be_in_the_registry_of_the_host(host, prefix):
    registry = import_module(f'{host}.registry').MODELS
    part = type(f'Loss{host}', (AbsoluteLoss,), {})
    registry.register_module(module=part, force=True)
    name = prefix.replace('host', host) + part.__name__
    _, head, _ = losses_of(host, criterion=dict(type='SetCriterion', mask_loss=dict(type=name)))
    assert type(head.criterion.mask_loss) is part


def test_a_loss_of_the_host_is_not_a_mask_loss():
    with pytest.raises(
        TypeError, match='criterion.mask_loss: found mmseg.*DiceLoss, expected a class that derives from'
    ):
        hosts.make_segmentor(criterion=dict(type='SetCriterion', mask_loss=dict(type='DiceLoss')))


@BOTH
def test_a_network_with_mask_features_per_layer(host):
    network = dict(classifier=dict(type='OwnFeaturesNetwork'), pixel_decoder=None, transformer_decoder=None)
    _, head, losses = losses_of(host, **network)
    assert sum(key.endswith('loss_mask') for key in losses) == 4
    assert_trained(head.classifier)


@MODELS.register_module()
class WrongNetwork(OwnFeaturesNetwork):
    """Returns something else than a list of predictions that fit the head."""

    def __init__(self, wrong, **settings):
        super().__init__(**settings)
        self.wrong = wrong

    def forward(self, features, *, all_layers):
        predictions = super().forward(features, all_layers=all_layers)
        changes = {
            'one': lambda: predictions[-1],
            'nothing': lambda: None,
            'pairs': lambda: [(x.class_logits, x.masks) for x in predictions],
            'tensor': lambda: [x._replace(masks=x.masks.multiplied_out()) for x in predictions],
            'classes': lambda: [x._replace(class_logits=x.class_logits[..., 1:]) for x in predictions],
            'batch': lambda: [MaskPrediction(x.class_logits[:1], x.masks.of_image(0)) for x in predictions],
        }
        return changes[self.wrong]()


@BOTH
@pytest.mark.parametrize('wrong', ['one', 'nothing', 'pairs', 'tensor', 'classes', 'batch'])
def test_a_network_that_returns_something_else_is_named_in_training_and_prediction(host, wrong):
    network = dict(type='WrongNetwork', wrong=wrong)
    parts = dict(classifier=network, pixel_decoder=None, transformer_decoder=None)
    model = hosts.make_segmentor(**parts) if host == 'mmseg' else hosts.make_detector(**parts)
    make = hosts.make_sample if host == 'mmseg' else hosts.make_panoptic_sample
    samples = [make((64, 96), seed=i) for i in range(2)]
    data = dict(inputs=[image for image, _ in samples], data_samples=[sample for _, sample in samples])
    with pytest.raises(ValueError, match='WrongNetwork: .*expected'):
        model.train()(**model.data_preprocessor(data, training=True), mode='loss')
    with pytest.raises(ValueError, match='WrongNetwork: .*expected'):
        model.eval().test_step(data)


def test_the_loss_of_that_network_is_that_of_the_equations():
    torch.manual_seed(0)
    network = OwnFeaturesNetwork([3, 5], 4, 6, 8).double()
    features = [torch.randn(1, 3, 8, 12, dtype=torch.float64), torch.randn(1, 5, 4, 6, dtype=torch.float64)]
    target = toy.make_target(3, (32, 48), num_classes=4)
    predictions = network(features, all_layers=True)
    criterion = SetCriterion(num_classes=4, matcher=MatcherInOrder(6))
    losses = criterion(predictions, [target])
    pairs = Matches.of([[(range(3), range(3))]] * 2)
    for key, value in oracles.set_loss(predictions, [target], pairs).items():
        torch.testing.assert_close(losses[key], value)


def test_decoders_that_a_network_does_not_take_are_refused():
    with pytest.raises(
        TypeError, match=r'classifier \(OwnFeaturesNetwork\) does not take a pixel_decoder. Fix: pixel_'
    ):
        hosts.make_segmentor(classifier=dict(type='OwnFeaturesNetwork'))


def test_a_pixel_decoder_without_memory_channels_is_named():
    MODELS.register_module(name='SilentPixelDecoder', module=type('SilentPixelDecoder', (nn.Module,), {}), force=True)
    message = r'model.decode_head.pixel_decoder \(SilentPixelDecoder\) has memory_channels=None, expected the number'
    with pytest.raises(TypeError, match=message):
        hosts.make_segmentor(pixel_decoder=dict(type='SilentPixelDecoder'))


@MODELS.register_module()
class ExtendedPixelDecoder(FPNPixelDecoder):
    def __init__(self, extra, **settings):
        super().__init__(**settings)
        self.extra = extra


@MODELS.register_module()
class ExtendedMatcher(HungarianMatcher):
    def __init__(self, extra, **settings):
        super().__init__(**settings)
        self.extra = extra


@MODELS.register_module()
class ExtendedCriterion(SetCriterion):
    def __init__(self, extra, **settings):
        super().__init__(**settings)
        self.extra = extra


@BOTH
def test_parts_that_extend_ours_by_keyword_arguments_get_the_same_values(host):
    criterion = dict(
        type='ExtendedCriterion',
        extra=1,
        loss_weights=dict(mask=7.0),
        mask_loss=dict(type='CrossEntropyDiceLoss'),
        no_object_weight=0.3,
    )
    pixel_decoder = dict(type='ExtendedPixelDecoder', extra=2, norm_groups=4)
    _, head, _ = losses_of(
        host, pixel_decoder=pixel_decoder, matcher=dict(type='ExtendedMatcher', extra=3), criterion=criterion
    )
    matcher = head.criterion.matcher
    assert (head.criterion.extra, head.classifier.pixel_decoder.extra, matcher.extra) == (1, 2, 3)
    assert head.criterion.no_object_weight == 0.3
    assert matcher.weights == dict(cls=1.0, mask=7.0, dice=1.0) and matcher.costs[1].kind == 'bce'
    with pytest.raises(TypeError, match="does not take the key 'norm_group'. Did you mean 'norm_groups'"):
        losses_of(host, pixel_decoder=dict(type='ExtendedPixelDecoder', extra=2, norm_group=4))


@MODELS.register_module()
class PlainNetwork(nn.Module):
    """Computes mask logits itself; those of its last query may be broken."""

    def __init__(self, in_channels, num_classes, num_queries):
        super().__init__()
        self.masks = nn.Conv2d(in_channels[0], num_queries, 1)
        self.class_embed = nn.Linear(in_channels[0], num_queries * (num_classes + 1))
        self.num_queries = num_queries

    def forward(self, features, *, all_layers):
        class_logits = self.class_embed(features[0].mean((2, 3))).unflatten(1, (self.num_queries, -1))
        return [MaskPrediction(class_logits, Plain(self.masks(features[0])))]


@torch.no_grad()
def test_broken_masks_of_any_query_of_a_network_with_plain_logits_are_found():
    network = dict(classifier=dict(type='PlainNetwork'), pixel_decoder=None, transformer_decoder=None)
    model = hosts.make_segmentor(**network).eval()
    image, sample = hosts.make_sample((64, 96))
    data = dict(inputs=[image], data_samples=[sample])
    model.test_step(data)
    model.decode_head.classifier.masks.bias[-1] = float('nan')
    with pytest.raises(NonFiniteLogitsError, match='image 0 of the batch'):
        model.test_step(data)
