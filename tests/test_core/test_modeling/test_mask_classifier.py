"""The model equals the published system in outputs, losses and gradients."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import official, toy

from mmmaskformer.core.matches import Matches
from mmmaskformer.core.structures import MaskTarget
from mmmaskformer.core.training.targets import semantic_targets


def has_encoder(reference: dict) -> bool:
    return reference['config']['pixel_decoder'] == 'TransformerEncoderPixelDecoder'


def build(reference: dict, dtype: torch.dtype = torch.float32):
    config = reference['config']
    model = toy.make_classifier(
        config['num_classes'],
        num_queries=config['num_queries'],
        channels=config['hidden_dim'],
        num_layers=config['dec_layers'],
        in_channels=config['in_channels'],
        norm_groups=config['norm_groups'],
        num_heads=config['nheads'],
        ffn_channels=config['dim_feedforward'],
        encoder_layers=config.get('pixel_decoder_encoder_layers', 0),
    )
    model.load_state_dict(official.our_state_dict(reference['state_dict'], encoder=has_encoder(reference)))
    return model.to(dtype), toy.make_criterion(config['num_classes'])


def run(reference: dict, targets, dtype: torch.dtype = torch.float32):
    model, criterion = build(reference, dtype)
    features = [x.detach().to(dtype, copy=True).requires_grad_() for x in reference['features'].values()]
    predictions = model(features, all_layers=True)
    losses = criterion(predictions, targets)
    sum(losses.values()).backward()
    return model, features, predictions, losses, criterion.matcher(predictions, targets)


def assert_same_matches(found, expected):
    for found_column, expected_column in zip(found, Matches.of(expected), strict=True):
        assert np.array_equal(found_column, expected_column)


def assert_close_to_max(found, expected, tolerance):
    """Equal to a fraction of the largest entry, which is how rounding errors of sums scale."""
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.fixture(scope='module')
def reference():
    return official.load('semantic_head')


@pytest.fixture(scope='module', params=['semantic_head', 'panoptic_head'])
def either(request):
    return official.load(request.param)


def semantic(reference):
    return semantic_targets(reference['gt_sem_seg'], num_classes=reference['config']['num_classes'])


def published_targets(reference):
    if 'gt_sem_seg' in reference:
        return semantic(reference)
    return [MaskTarget(target['labels'], masks=target['masks']) for target in reference['targets']]


def test_outputs_matches_losses_and_gradients_equal_the_published_ones(either):
    reference = either
    model, features, predictions, losses, matches = run(reference, published_targets(reference))
    for layer, prediction in enumerate(predictions):
        assert_close_to_max(prediction.class_logits, reference['pred_logits'][layer], 1e-5)
        for image in range(2):
            assert_close_to_max(prediction.mask_logits(image), reference['pred_masks'][layer, image], 1e-5)
    assert_same_matches(matches, reference['indices'])
    expected = official.our_losses(reference['weighted_losses'], len(predictions))
    assert set(losses) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-5, atol=0)
    for feature, expected in zip(features, reference['grad_features'].values(), strict=True):
        assert_close_to_max(feature.grad, expected, 1e-5)
    parameters = dict(model.named_parameters())
    for name, expected in reference['grad_params'].items():
        assert_close_to_max(parameters[our_name(reference, name)].grad, expected, 1e-5)


def our_name(reference, name):
    return official.our_name(name, encoder=has_encoder(reference))


def test_float64_equals_the_published_run_in_float64(either):
    reference, expected = either, either['float64']
    model, features, predictions, losses, _ = run(reference, published_targets(reference), torch.float64)
    logits = torch.stack([prediction.class_logits for prediction in predictions])
    assert_close_to_max(logits, expected['pred_logits'], 1e-7)
    assert_close_to_max(predictions[-1].mask_logits(0), expected['pred_masks_last'][0], 1e-7)
    # The published criterion computes position encoding and class weights in float32, hence 1e-7, not 1e-12.
    for key, value in official.our_losses(expected['losses'], len(predictions)).items():
        weight = 20 if key.endswith('loss_mask') else 1
        torch.testing.assert_close(losses[key], weight * value, rtol=1e-7, atol=0)
    torch.testing.assert_close(sum(losses.values()), expected['total_loss'], rtol=1e-7, atol=0)
    assert_close_to_max(features[-1].grad, expected['grad_res5'], 1e-6)
    parameters = dict(model.named_parameters())
    for name, value in expected['grad_params'].items():
        assert_close_to_max(parameters[our_name(reference, name)].grad, value, 1e-6)


def test_the_encoder_pixel_decoder_equals_the_published_one():
    reference = official.load('panoptic_head')
    model, _ = build(reference)
    found, expected = model.pixel_decoder(list(reference['features'].values())), reference['pixel_decoder_out']
    assert_close_to_max(found.mask_features[:1], expected['mask_features_image0'], 1e-5)
    assert_close_to_max(found.memory, expected['encoder_memory'], 1e-5)


def test_an_image_of_odd_size_equals_the_published_losses():
    reference = official.load('panoptic_head')
    odd = reference['odd_size']
    _, _, predictions, losses, matches = run(reference | dict(features=odd['features']), published_targets(odd))
    for layer, prediction in enumerate(predictions):
        assert_close_to_max(prediction.class_logits, odd['pred_logits'][layer], 1e-5)
        assert_close_to_max(prediction.mask_logits(0), odd['pred_masks'][layer, 0], 1e-5)
    assert_same_matches(matches, odd['indices'])
    for key, value in official.our_losses(odd['weighted_losses'], len(predictions)).items():
        torch.testing.assert_close(losses[key], value, rtol=1e-5, atol=0)


def case_targets(reference, name):
    full, case = semantic(reference), reference['cases'][name]
    none = MaskTarget(torch.zeros(0, dtype=torch.long), segment_map=torch.full((96, 128), -1, dtype=torch.int16))
    if name == 'one_empty':
        return [full[0], none]
    if name == 'all_empty':
        return [none, none]
    if name == 'padded':
        masks = case['unpadded_masks']
        return [
            MaskTarget(t.labels, masks=F.pad(m, (0, 128 - m.shape[-1], 0, 96 - m.shape[-2])))
            for t, m in zip(full, masks, strict=True)
        ]
    first, second = case['targets']
    crowded = MaskTarget(first['labels'], segment_map=first['segment_map'].to(torch.int16))
    return [crowded, full[1]]


@pytest.mark.parametrize('name', ['one_empty', 'all_empty', 'more_than_queries', 'padded'])
@pytest.mark.filterwarnings('ignore:an image has')
def test_odd_target_sets_equal_the_published_losses(reference, name):
    model, _, predictions, losses, matches = run(reference, case_targets(reference, name))
    case = reference['cases'][name]
    assert_same_matches(matches, case['indices'])
    for key, value in official.our_losses(case['weighted_losses'], len(predictions)).items():
        torch.testing.assert_close(losses[key], value, rtol=1e-5, atol=0)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_only_the_last_layer_runs_its_heads_on_request(reference):
    model, _ = build(reference)
    calls = []
    model.class_embed.register_forward_hook(lambda *_: calls.append('class'))
    features = list(reference['features'].values())
    last = model(features, all_layers=False)
    assert calls == ['class'] and len(last) == 1
    torch.testing.assert_close(last[0].class_logits, model(features, all_layers=True)[-1].class_logits)


def test_a_batch_equals_its_images_one_by_one():
    torch.manual_seed(0)
    model = toy.make_classifier().double()
    features = [x.double() for x in toy.make_features()]
    both = model(features, all_layers=True)
    for image in range(2):
        alone = model([x[image : image + 1] for x in features], all_layers=True)
        for found, expected in zip(alone, both, strict=True):
            torch.testing.assert_close(found.class_logits[0], expected.class_logits[image])
            torch.testing.assert_close(found.mask_logits(0), expected.mask_logits(image))


@pytest.mark.parametrize('size', [(75, 107), (33, 200), (4, 4)])
@pytest.mark.parametrize('num_queries', [1, 7])
def test_odd_sizes_and_one_query_give_masks_on_the_finest_grid(size, num_queries):
    model = toy.make_classifier(num_queries=num_queries)
    prediction = model(toy.make_features(size, batch=1), all_layers=False)[0]
    assert prediction.mask_logits(0).shape == (num_queries, math.ceil(size[0] / 4), math.ceil(size[1] / 4))


def published_width_model(num_classes=150, **settings):
    return toy.make_classifier(
        num_classes, num_queries=100, channels=256, num_layers=6, in_channels=(256, 512, 1024, 2048), norm_groups=32,
        num_heads=8, ffn_channels=2048, **settings,
    )  # fmt: skip


def test_initialisation_follows_the_published_one():
    torch.manual_seed(0)
    model = published_width_model()

    def assert_uniform(weight, bound):
        weight, slack = weight.detach(), 5 / math.sqrt(weight.numel())
        assert weight.abs().max() <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=slack)
        assert abs(float(weight.mean())) < slack * bound

    decoder, pixel = model.transformer_decoder, model.pixel_decoder
    encoder = published_width_model(encoder_layers=1).pixel_decoder
    convs = [pixel.top_conv.conv, pixel.mask_conv, decoder.memory_proj, encoder.memory_proj]
    convs += [conv.conv for conv in (*pixel.lateral_convs, *pixel.output_convs)]
    for conv in convs:
        assert_uniform(conv.weight, math.sqrt(3 / conv.weight[0].numel()))
        assert conv.bias is None or not conv.bias.any()
    for layer in decoder.layers:
        for attention in (layer.self_attn, layer.cross_attn):
            assert_uniform(attention.in_proj_weight, math.sqrt(6 / (4 * 256)))
            assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()
        assert_uniform(layer.linear1.weight, math.sqrt(6 / (256 + 2048)))
        assert_uniform(layer.linear1.bias, 1 / math.sqrt(256))
        assert torch.equal(layer.linear1.bias, decoder.layers[0].linear1.bias)
        assert torch.equal(layer.linear2.bias, decoder.layers[0].linear2.bias)
    assert not torch.equal(decoder.layers[0].linear1.weight, decoder.layers[1].linear1.weight)
    assert float(decoder.query_embed.weight.detach().std()) == pytest.approx(1, rel=0.02)
    assert_uniform(model.class_embed.weight, 1 / math.sqrt(256))
    for norm in (decoder.norm, pixel.top_conv.norm, decoder.layers[0].norm1):
        assert (norm.weight == 1).all() and not norm.bias.any()


def test_parameter_counts_equal_the_published_ones():
    model = published_width_model()

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(model.pixel_decoder) == 7_540_480
    assert count(model) - count(model.pixel_decoder) == 10_259_351


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = toy.make_classifier(dropout=0.5)
    features = toy.make_features(batch=1)

    def logits():
        return model(features, all_layers=False)[0].class_logits

    assert not torch.equal(logits(), logits())
    model.eval()
    assert torch.equal(logits(), logits())


def test_the_compiled_model_is_one_graph_and_trains_alike():
    torch.manual_seed(0)
    model, features, targets = toy.make_classifier(), toy.make_features(), [toy.make_target(3), toy.make_target(2)]
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    gradients = []
    for forward in (model, compiled):
        losses = toy.make_criterion()(forward(features, all_layers=True), targets)
        gradients.append(torch.autograd.grad(sum(losses.values()), list(model.parameters())))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_compiled_model_needs_two_graphs_for_all_sizes():
    model = toy.make_classifier(num_layers=1).eval()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=count, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in ((64, 96), (96, 64), (70, 51), (128, 160)):
            features = toy.make_features(size)
            found, expected = (network(features, all_layers=False)[0] for network in (compiled, model))
            torch.testing.assert_close(found.class_logits, expected.class_logits)
            torch.testing.assert_close(found.mask_logits(0), expected.mask_logits(0))
    assert len(graphs) <= 2
