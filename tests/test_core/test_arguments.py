"""Invalid arguments of every public function of the core are named in an error, and nothing is computed from them."""

import numpy as np
import pytest
import torch
from helpers import toy
from torch import nn

from mmmaskformer import core
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.inference.semantic import general_scores, scores_at_input, semantic_scores
from mmmaskformer.core.masks import Folded, Plain, Product

SIZES = ((8, 12), (8, 12), (16, 24))
THINGS = torch.tensor([True, False, True, False, False])
CLASS_LOGITS, MASK_LOGITS = torch.randn(2, 7, 6), torch.randn(2, 7, 4, 6)
"""Predictions and targets of a batch; tests of inference take one image."""

RESULTS = {
    core.semantic_labels: {},
    core.semantic_inference: {},
    core.panoptic_inference: dict(is_thing=THINGS),
    core.instance_inference: dict(is_thing=THINGS),
}
SCORES = {
    semantic_scores: (),
    general_scores: (),
    scores_at_input: ((8, 12),),
}


def queries(mask_logits=MASK_LOGITS[0], *, flipped=False, sizes=SIZES) -> core.QueryMasks:
    return core.QueryMasks.of_logits(mask_logits, *sizes, flipped=flipped)


def product(**changes) -> core.QueryMasks:
    return queries()._replace(masks=Product(torch.randn(1, 7, 3), torch.randn(1, 3, 4, 6))._replace(**changes))


def folded(**changes) -> core.QueryMasks:
    conv = LastConv(torch.randn(1, 2, 4, 6), torch.randn(3, 2, 3, 3), torch.randn(3))
    return queries()._replace(masks=Folded(torch.randn(1, 7, 3), conv._replace(**changes)))


WRONG_RESULTS = {
    'a batch of class logits': (dict(class_logits=CLASS_LOGITS), r'class_logits are \(2, 7, 6\)'),
    'an array': (dict(class_logits=CLASS_LOGITS[0].numpy()), 'class_logits are a ndarray'),
    '8-bit floats': (dict(class_logits=CLASS_LOGITS[0].to(torch.float8_e5m2)), r'class_logits are .*float8'),
    'complex numbers': (dict(class_logits=CLASS_LOGITS[0].to(torch.complex64)), 'class_logits are .*complex64'),
    'another device': (dict(class_logits=CLASS_LOGITS[0].to('meta')), 'masks are on cpu; expected meta'),
    'logits in place of masks': (dict(masks=MASK_LOGITS[0]), 'masks are a Tensor; expected QueryMasks'),
    'a batch of mask logits': (dict(masks=queries(MASK_LOGITS)), r'masks.all_logits \(Plain\) is \(1, 2, 7, 4, 6\)'),
    'as many images as queries': (dict(masks=queries(torch.zeros(7, 7, 4, 6))), 'all_logits'),
    'one mask': (dict(masks=queries(MASK_LOGITS[0, 0])), r'masks.all_logits \(Plain\) is \(1, 4, 6\)'),
    'other embeddings': (dict(masks=product(embed=torch.randn(1, 7, 5))), r'masks.features .*expected \(1, 5, h, w\)'),
    'embeddings of a batch': (dict(masks=product(features=torch.randn(2, 3, 4, 6))), 'masks.features .* is .2, 3'),
    'flat features': (dict(masks=product(features=torch.randn(1, 3, 24))), 'masks.features .* is .1, 3, 24.'),
    'features elsewhere': (dict(masks=product(features=torch.randn(1, 3, 4, 6, device='meta'))), 'features .*on meta'),
    'integer features': (dict(masks=product(features=torch.ones(1, 3, 4, 6).long())), 'masks.features .* int64'),
    'another kernel': (dict(masks=folded(weight=torch.randn(3, 5, 3, 3))), r'masks.conv.weight .*\(3, 2, k, l\) float'),
    'no bias': (dict(masks=folded(bias=None)), 'masks.conv.bias .* is a NoneType'),
    'flipped by a word': (dict(masks=queries(flipped='no')), "flipped: found 'no', expected True or False"),
    'a size of three': (dict(masks=queries(sizes=((8, 12, 3), (8, 12), (8, 12)))), 'input_size: found'),
    'no things': (dict(is_thing=None), r'is_thing is a NoneType; expected \(5,\) bool'),
    'things as a list': (dict(is_thing=[True] * 5), r'is_thing is a list; expected \(5,\) bool'),
    'things elsewhere': (dict(is_thing=THINGS.to('meta')), 'is_thing is on meta; expected cpu'),
}  # fmt: skip


@pytest.mark.parametrize('function', RESULTS)
@pytest.mark.parametrize('wrong', WRONG_RESULTS)
def test_results_of_an_image(function, wrong):
    changes, message = WRONG_RESULTS[wrong]
    given = dict(class_logits=CLASS_LOGITS[0], masks=queries()) | RESULTS[function]
    if set(changes) <= set(given):
        with pytest.raises(ValueError, match=rf'{function.__name__}.*{message}'):
            function(**given | changes)


@pytest.mark.parametrize('function', RESULTS)
@pytest.mark.parametrize('masks', [product(), folded(), queries()], ids=['Product', 'Folded', 'Plain'])
def test_memory_layouts_do_not_matter(function, masks):
    """Transposed and strided logits give the same result as contiguous ones and are not modified."""
    class_logits = CLASS_LOGITS[0].T.contiguous().T
    assert not class_logits.is_contiguous()
    expected = function(CLASS_LOGITS[0], masks, **RESULTS[function])
    strided = masks._replace(masks=strided_like(masks.masks))
    before = [value.clone() for value in strided.masks.parts(0).values()]
    found = function(class_logits, strided, **RESULTS[function])
    for ours, theirs in zip(tensors_of(found), tensors_of(expected), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(map(torch.equal, before, strided.masks.parts(0).values()))


def strided_like(value):
    """The same values with gaps between them in memory."""
    if isinstance(value, torch.Tensor):
        wide = torch.empty(*value.shape[:-1], 2 * value.shape[-1])
        wide[..., ::2] = value
        return wide[..., ::2]
    return value if value is None else type(value)(*map(strided_like, value))


def tensors_of(result) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    values = result if isinstance(result, tuple) else vars(result).values()
    return [value for value in values if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize('function', SCORES)
def test_scores_of_an_image(function):
    more = SCORES[function]
    for wrong, message in (
        ((CLASS_LOGITS, MASK_LOGITS), r'class_logits are \(2, 7, 6\)'),
        ((CLASS_LOGITS[0], MASK_LOGITS), r'mask_logits are \(2, 7, 4, 6\)'),
        ((CLASS_LOGITS[0], MASK_LOGITS[0].long()), 'mask_logits are .*int64'),
        ((CLASS_LOGITS[0, :3], MASK_LOGITS[0]), r'found class_logits \(3, 6\)'),
        ((CLASS_LOGITS[0, :, :1], MASK_LOGITS[0]), 'class_logits have 1 columns'),
        ((CLASS_LOGITS[0], MASK_LOGITS[0].to('meta')), 'on meta; expected those of the same queries, on one device'),
    ):
        with pytest.raises(ValueError, match=rf'{function.__name__}: .*{message}'):
            function(*wrong, *more)
    assert function(CLASS_LOGITS[0, :0], MASK_LOGITS[0, :0], *more).sum() == 0


def as_masks(**changes) -> core.MaskTarget:
    return toy.as_masks(toy.make_target(2))._replace(**changes)


WRONG_TARGETS = {
    'labels and masks of two images that add up': (
        [as_masks(labels=torch.tensor([0])), as_masks(labels=torch.tensor([0, 1, 2]))],
        'target 0 of the batch: found 1 labels and 2 masks',
    ),
    'ignored pixels beside a map': (
        [toy.make_target(2)._replace(ignored=torch.zeros(32, 48, dtype=torch.bool))] * 2,
        'target 0 of the batch has ignored in addition to a segment_map',
    ),
    'ignored pixels of another size': (
        [as_masks(ignored=torch.zeros(31, 48, dtype=torch.bool))] * 2,
        r'target 0 of the batch: ignored is \(31, 48\) bool; expected \(32, 48\)',
    ),
    'ignored pixels as numbers': (
        [as_masks(ignored=torch.zeros(32, 48))] * 2,
        'ignored pixels of targets are .*float32',
    ),
    'labels as a list': ([toy.make_target(2)._replace(labels=[0, 1])] * 2, 'target 0 of the batch: labels is a list'),
    'no labels': ([toy.make_target(2)._replace(labels=None)] * 2, 'target 0 of the batch: labels is a NoneType'),
    'an array': (
        [toy.make_target(2)._replace(segment_map=np.zeros((32, 48), np.int16))] * 2,
        'target 0 of the batch: segment_map is a ndarray',
    ),
    'dicts': ([dict(labels=torch.zeros(2), masks=torch.zeros(2, 8, 8))] * 2, 'target 0 of the batch is a dict'),
    'a map elsewhere': (
        [toy.make_target(2)._replace(segment_map=torch.zeros(32, 48, dtype=torch.int16, device='meta'))] * 2,
        'target 0 of the batch: segment_map is .* on meta; expected .* on one device',
    ),
    'a map of another size': ([toy.make_target(2), toy.make_target(2, (16, 16))], 'targets of a batch have the sizes'),
}  # fmt: skip


@pytest.mark.parametrize('wrong', WRONG_TARGETS)
@pytest.mark.parametrize('function', [core.HungarianMatcher(), toy.make_criterion()], ids=['matcher', 'criterion'])
def test_targets(function, wrong):
    targets, message = WRONG_TARGETS[wrong]
    with pytest.raises(ValueError, match=message):
        function(toy.make_predictions(), targets)


@pytest.mark.parametrize('changes, message', [
    (dict(counts=(1.0, 1.0)), r'counts of targets are \(1.0, 1.0\)'),
    (dict(counts=(3, -1)), r'counts of targets are \(3, -1\)'),
    (dict(counts=torch.tensor([1, 1])), 'counts of targets are tensor'),
    (dict(labels=[0, 1]), 'labels of targets are a list'),
    (dict(segment_maps=np.zeros((2, 4, 4), np.int16)), 'segment_maps of targets are a ndarray'),
    (dict(segment_maps=torch.zeros(2, 4, 4, dtype=torch.int16, device='meta')), 'segment_maps of targets .*on meta'),
])  # fmt: skip
def test_a_batch_of_targets(changes, message):
    given = dict(labels=torch.tensor([0, 1]), counts=(1, 1), segment_maps=torch.zeros(2, 4, 4, dtype=torch.int16))
    with pytest.raises(ValueError, match=message):
        core.Targets(**given | changes)


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
INTEGERS += [getattr(torch, name) for name in ('uint16', 'uint32', 'uint64') if hasattr(torch, name)]


@pytest.mark.parametrize('dtype', INTEGERS)
def test_maps_of_any_integer_give_the_same_losses(dtype):
    """All pixels belong to a segment here, since an unsigned map cannot mark pixels without one."""
    targets = [toy.make_target(3), toy.make_target(1, seed=1)]
    targets = [target._replace(segment_map=target.segment_map.clamp(min=0)) for target in targets]
    expected = toy.make_criterion()(toy.make_predictions(), targets)
    changed = [target._replace(segment_map=target.segment_map.to(dtype)) for target in targets]
    mixed = [changed[0]._replace(labels=changed[0].labels.to(dtype)), targets[1]]
    for given in (changed, mixed):
        for key, value in toy.make_criterion()(toy.make_predictions(), given).items():
            torch.testing.assert_close(value, expected[key])


def prediction(**changes) -> core.MaskPrediction:
    return toy.make_predictions(num_layers=1)[0]._replace(**changes)


WRONG_PREDICTIONS = {
    'one prediction': (prediction(), 'predictions are a MaskPrediction; expected a list of MaskPrediction'),
    'a tensor': (torch.zeros(2, 7, 6), 'predictions are a Tensor'),
    'dicts': ([dict(pred_logits=CLASS_LOGITS)], 'decoder layer 1 of 1: found a dict'),
    'an array': ([prediction(class_logits=CLASS_LOGITS.numpy())], 'decoder layer 1 of 1: class_logits are a ndarray'),
    'bare logits': ([prediction(masks=MASK_LOGITS)], 'masks are a Tensor; expected'),
    'masks of one image': ([prediction(masks=Plain(MASK_LOGITS[0]))], 'masks.all_logits .* is .7, 4, 6.'),
    'masks elsewhere': ([prediction(masks=Plain(MASK_LOGITS.to('meta')))], 'masks are on meta; expected cpu'),
    'layers on two devices': ([prediction(), prediction(class_logits=CLASS_LOGITS.to('meta'))], 'decoder layer 2 of 2'),
    'nothing': ([], 'there are no predictions'),
}


@pytest.mark.parametrize('wrong', WRONG_PREDICTIONS)
@pytest.mark.parametrize('function', [core.HungarianMatcher(), toy.make_criterion()], ids=['matcher', 'criterion'])
def test_predictions(function, wrong):
    predictions, message = WRONG_PREDICTIONS[wrong]
    with pytest.raises(ValueError, match=message):
        function(predictions, [toy.make_target(2)] * 2)


def test_targets_elsewhere():
    targets = core.Targets.of([toy.make_target(2)] * 2)
    there = core.Targets(targets.labels.to('meta'), targets.counts, targets.segment_maps.to('meta'))
    for function in (core.HungarianMatcher(), toy.make_criterion()):
        with pytest.raises(ValueError, match='targets are on meta; expected cpu as the predictions'):
            function(toy.make_predictions(), there)


@pytest.mark.parametrize('pairs, message', [
    ([], 'pairs has'),
    ([[], []], 'pairs has'),
    ([[([0], [0])], []], 'pairs has'),
    ([[([0, 1], [0])]], r'pairs\[0\]\[0\] has 2 queries and 1 segments'),
    ([[([0.7], [0])]], r'queries: found \(1,\) float64, expected \(n,\) whole numbers'),
    ([[([0], [[0]])]], r'segments: found \(1, 1\) int64'),
])  # fmt: skip
def test_pairs(pairs, message):
    with pytest.raises(ValueError, match=message):
        core.Matches.of(pairs)


def test_what_a_matcher_returns():
    class Foreign(nn.Module):
        def forward(self, layers, targets):
            return self.found

    criterion = core.SetCriterion(num_classes=5, matcher=Foreign())
    zeros = np.zeros(1, np.int64)
    for criterion.matcher.found, error, message in (
        ([([0], [0])], TypeError, 'Foreign returned a list; expected Matches'),
        (core.Matches(zeros, zeros, zeros + 0.5, zeros), ValueError, r'query of Foreign: found \(1,\) float64'),
        (core.Matches(zeros, zeros, zeros, zeros[:0]), ValueError, r'columns of the lengths \[1, 1, 1, 0\]'),
    ):
        with pytest.raises(error, match=message):
            criterion(toy.make_predictions(), [toy.make_target(2)] * 2)


@pytest.mark.parametrize('label_maps, message', [
    (np.zeros((1, 4, 4), np.int64), 'label_maps are a ndarray'),
    (torch.zeros(4, 4).long(), r'label_maps are torch.int64 \(4, 4\)'),
    (torch.zeros(1, 4, 4, dtype=torch.bool), 'label_maps are torch.bool'),
    (torch.zeros(1, 0, 4).long(), 'label_maps are torch.int64 .1, 0, 4.'),
])  # fmt: skip
def test_label_maps(label_maps, message):
    with pytest.raises(ValueError, match=message):
        core.semantic_targets(label_maps, num_classes=3)


def features(**changes):
    given = toy.make_features(batch=1)
    return [changes.get(f'level{number}', feature) for number, feature in enumerate(given)]


@pytest.mark.parametrize('wrong, message', [
    (torch.zeros(1, 8, 16, 24), 'features are a Tensor; expected a list'),
    (features(level1=np.zeros((1, 12, 8, 12))), 'features are a list; expected a list of tensors'),
    (features(level1=torch.zeros(1, 12, 8, 12).long()), 'features are .*int64.*expected float'),
    (features(level3=torch.zeros(1, 20, 0, 0)), 'features are .*at least one pixel'),
    (features(level2=torch.zeros(2, 16, 4, 6)), 'one batch size, dtype and device'),
    (features(level2=torch.zeros(1, 16, 4, 6).half()), 'one batch size, dtype and device'),
    (features(level2=torch.zeros(1, 16, 4, 6, device='meta')), 'features .*on meta.*one batch size, dtype and device'),
])  # fmt: skip
@pytest.mark.parametrize('encoder_layers', [0, 1])
def test_features(wrong, message, encoder_layers):
    with pytest.raises(ValueError, match=message):
        toy.make_classifier(encoder_layers=encoder_layers)(wrong, all_layers=True)


def test_features_of_several_dtypes_under_autocast():
    """Under autocast, a backbone may return float32 at one level and bfloat16 at another."""
    model, given = toy.make_classifier(), features()
    expected = model(given, all_layers=False)[0].class_logits
    given[1] = given[1].bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        found = model(given, all_layers=False)[0].class_logits
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)


@pytest.fixture(scope='module')
def model() -> core.MaskFormer:
    backbone = nn.Module()
    backbone.forward = lambda images: toy.make_features(images.shape[2:], batch=len(images))
    small = dict(num_classes=5, num_queries=7, channels=16, num_heads=4, ffn_channels=24, norm_groups=4)
    return core.build_maskformer(backbone=backbone, in_channels=toy.IN_CHANNELS, decoder_layers=1, **small).eval()


@pytest.mark.parametrize('images, message', [
    (np.zeros((1, 3, 64, 96), np.float32), 'images are a ndarray'),
    (torch.zeros(0, 3, 64, 96), r'images are \(0, 3, 64, 96\)'),
    (torch.zeros(1, 3, 0, 96), r'images are \(1, 3, 0, 96\)'),
    (torch.zeros(1, 3, 64, 96, dtype=torch.complex64), 'images are .*complex64'),
])  # fmt: skip
def test_images(model, images, message):
    for function in (model, model.predict):
        with pytest.raises(ValueError, match=message):
            function(images)


@pytest.mark.parametrize('sizes, message', [
    (dict(image_sizes=(64, 96)), r'predict.image_sizes: found \(64, 96\)'),
    (dict(out_sizes=[(64.0, 96.0)]), 'predict.out_sizes: found'),
    (dict(out_sizes=[(0, 96)]), 'predict.out_sizes: found'),
    (dict(image_sizes=[(65, 96)]), r'image_sizes\[0\] is \(65, 96\); expected at most \(64, 96\)'),
])  # fmt: skip
def test_sizes(model, sizes, message):
    with pytest.raises(ValueError, match=message):
        model.predict(torch.zeros(1, 3, 64, 96), **sizes)


@pytest.mark.parametrize('key, value', [
    ('encoder_layers', -1), ('encoder_layers', False), ('decoder_layers', 0), ('self_attention', 'no'),
    ('deep_supervision', 1), ('num_queries', 2.0), ('channels', '256'), ('backbone', None),
])  # fmt: skip
def test_settings_of_a_model(key, value):
    given = dict(backbone=nn.Identity(), in_channels=(8, 8), num_classes=2)
    with pytest.raises(ValueError, match=rf'build_maskformer.{key}: found '):
        core.build_maskformer(**given | {key: value})


@pytest.mark.parametrize('key, value, kind', [
    ('mask_loss', 'focal', 'MaskLoss'), ('mask_loss', nn.Identity(), 'MaskLoss'), ('box_loss', 3, 'Module'),
])  # fmt: skip
def test_parts_of_a_model_are_objects(key, value, kind):
    given = dict(backbone=nn.Identity(), in_channels=(8, 8), num_classes=2) | {key: value}
    expected = rf'{key}: found a {type(value).__name__}, expected a class that derives from {kind}$'
    with pytest.raises(TypeError, match=expected):
        core.build_maskformer(**given)
    with pytest.raises(TypeError, match=expected):
        core.SetCriterion(num_classes=2, matcher=core.HungarianMatcher(), **{key: value})


@pytest.mark.parametrize('targets', [None, 3, torch.zeros(2, 8, 8)])
def test_targets_are_a_list(targets):
    with pytest.raises(ValueError, match=f'targets are a {type(targets).__name__}; expected Targets, or a list'):
        toy.make_criterion()(toy.make_predictions(), targets)


def test_switches():
    for wrong in (None, torch.zeros(1), 'model'):
        with pytest.raises(ValueError, match=f'fuse_for_inference: module is a {type(wrong).__name__}'):
            core.fuse_for_inference(wrong)
    with pytest.raises(ValueError, match='enabled=1, expected True or False'):
        core.fuse_for_inference(nn.Identity().eval(), 1)
    with pytest.raises(ValueError, match="enabled='all', expected True or False"):
        core.set_fast_paths('all')
