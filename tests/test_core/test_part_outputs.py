"""What the parts of a network return is used as intended, or refused with the name of the part."""

import warnings

import pytest
import torch
from helpers import toy
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from mmmaskformer.core.contracts import PixelDecoderOutput
from mmmaskformer.core.folding import LastConv
from mmmaskformer.core.masks import Plain
from mmmaskformer.core.modeling.layers import MLP
from mmmaskformer.core.modeling.per_pixel import PerPixelClassifier, PerPixelPlusClassifier
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import BoxMatcher
from mmmaskformer.core.training.per_pixel_criterion import PixelCrossEntropy, PixelMaskLosses

MEMORY, PIXELS = torch.rand(2, 16, 2, 3), torch.rand(2, 16, 16, 24)


class GivenPixels(nn.Module):
    memory_channels = 16

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, features):
        return self.output


class GivenStates(nn.Module):
    def __init__(self, states):
        super().__init__()
        self.states = states

    def forward(self, memory):
        return self.states


def classifiers_with(output):
    """Networks of each kind with a pixel decoder that returns ``output``."""
    decoder, states = GivenPixels(output), toy.make_classifier(encoder_layers=1).transformer_decoder
    model = toy.make_classifier(encoder_layers=1)
    model.pixel_decoder = decoder
    widths = dict(mask_channels=16)
    return [
        model,
        PerPixelPlusClassifier(pixel_decoder=decoder, transformer_decoder=states, channels=16, **widths),
        PerPixelClassifier(pixel_decoder=decoder, num_classes=5, **widths),
    ]


@pytest.mark.parametrize('all_layers', [False, True])
@pytest.mark.parametrize(
    'output, message',
    [
        (PIXELS, r'GivenPixels returned a Tensor; expected PixelDecoderOutput\(memory, mask_features\)'),
        (
            PixelDecoderOutput(MEMORY, PIXELS[:, :8]),
            r'returned mask_features: \(2, 8, 16, 24\) float32; expected \(2',
        ),
        (
            PixelDecoderOutput(MEMORY, PIXELS[:1]),
            r'GivenPixels returned mask_features: \(1, 16, 16, 24\) float32; expected',
        ),
        (
            PixelDecoderOutput(MEMORY, PIXELS[0]),
            r'returned mask_features: \(16, 16, 24\) float32; expected \(2, 16, h, w\)',
        ),
        (PixelDecoderOutput(MEMORY, PIXELS.long()), r'mask_features: \(2, 16, 16, 24\) int64; expected .* float'),
        (
            PixelDecoderOutput(MEMORY, None),
            r'GivenPixels returned mask_features: a NoneType; expected \(2, 16, h, w\) float',
        ),
        (
            PixelDecoderOutput(MEMORY, LastConv(PIXELS, torch.rand(8, 16, 3, 3), torch.rand(8))),
            r'returned a LastConv with the weight: \(8, 16, 3, 3\) float32; expected \(16, 16, h, w\)',
        ),
    ],
)
def test_mask_features_that_do_not_fit_are_refused(output, message, all_layers):
    for model in classifiers_with(output):
        with pytest.raises((TypeError, ValueError), match=message):
            model(toy.make_features(), all_layers=all_layers)


@pytest.mark.parametrize(
    'memory, message',
    [
        (MEMORY[:, :8], r'GivenPixels returned a memory: \(2, 8, 2, 3\) float32; expected \(2, 16, h, w\) float'),
        (MEMORY[:1], r'GivenPixels returned a memory: \(1, 16, 2, 3\) float32'),
        (MEMORY.flatten(2), r'GivenPixels returned a memory: \(2, 16, 6\) float32'),
        (None, 'GivenPixels returned a memory: a NoneType; expected'),
        ([MEMORY], r'TransformerDecoder: the memory is a list; expected \(B, 16, h, w\) float32'),
        (
            MEMORY.double(),
            r'TransformerDecoder: the memory is \(2, 16, 2, 3\) float64; expected \(B, 16, h, w\) float32',
        ),
    ],
)
def test_a_memory_that_does_not_fit_is_refused_where_it_is_used(memory, message):
    model, plus, without = classifiers_with(PixelDecoderOutput(memory, PIXELS))
    for network in (model, plus):
        with pytest.raises(ValueError, match=message):
            network(toy.make_features(), all_layers=True)
    assert without(toy.make_features(), all_layers=True)[0].size == (16, 24)


class OfScales(nn.Module):
    """A transformer decoder for maps of several scales."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, memory):
        maps = memory.values() if isinstance(memory, dict) else memory
        return [self.decoder(x)[-1] for x in maps]


@pytest.mark.parametrize('kind', [list, tuple, lambda maps: dict(enumerate(maps))])
def test_a_transformer_decoder_may_read_a_memory_of_several_scales(kind):
    model, plus, _ = classifiers_with(PixelDecoderOutput(kind([MEMORY, MEMORY[:, :, :1]]), PIXELS))
    single = model.transformer_decoder
    model.transformer_decoder, plus.transformer_decoder = OfScales(single), OfScales(plus.transformer_decoder)
    found = model(toy.make_features(), all_layers=True)
    for prediction, memory in zip(found, (MEMORY, MEMORY[:, :, :1]), strict=True):
        torch.testing.assert_close(prediction.class_logits, model.class_embed(single(memory)[-1]))
    assert plus(toy.make_features(), all_layers=True)[1].size == (16, 24)


def test_parts_may_differ_in_dtype_under_autocast():
    model, _, _ = classifiers_with(PixelDecoderOutput(MEMORY.bfloat16(), PIXELS.bfloat16()))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert model(toy.make_features(), all_layers=True)[1].class_logits.shape == (2, 7, 6)


STATES = torch.rand(2, 2, 7, 16)


def test_states_may_be_any_sequence_or_one_tensor():
    model = toy.make_classifier()
    found = []
    for states in (STATES, list(STATES), tuple(STATES)):
        model.transformer_decoder = GivenStates(states)
        found.append([prediction.class_logits for prediction in model(toy.make_features(), all_layers=True)])
    torch.testing.assert_close(found[1:], found[:1] * 2, rtol=0, atol=0)


@pytest.mark.parametrize(
    'states, message',
    [
        (STATES[0], r'GivenStates returned \(7, 16\) float32 for decoder layer 1 of 2; expected \(2, Q, 16\) float32'),
        (
            [STATES[0], STATES[1, :, :5]],
            r'returned \(2, 5, 16\) float32 for decoder layer 2 of 2; .* with one Q',
        ),
        ([STATES[0, :, :, :8]], r'returned \(2, 7, 8\) float32 for decoder layer 1 of 1; expected \(2, Q, 16\)'),
        ([STATES[0].transpose(0, 1)], r'returned \(7, 2, 16\) float32'),
        (
            [STATES[0].double()],
            r'returned \(2, 7, 16\) float64 for decoder layer 1 of 1; expected \(2, Q, 16\) fl',
        ),
        ([], 'GivenStates returned an empty list'),
        (None, 'GivenStates returned a NoneType; expected a list'),
        (iter(STATES), 'GivenStates returned a .*iterator; expected a list'),
    ],
)
def test_states_that_do_not_fit_are_refused(states, message):
    model = toy.make_classifier()
    model.transformer_decoder = GivenStates(states)
    with pytest.raises((TypeError, ValueError), match=message):
        model(toy.make_features(), all_layers=False)


def test_replaced_layers_determine_the_expected_width():
    model = toy.make_classifier()
    model.pixel_decoder = GivenPixels(PixelDecoderOutput(MEMORY, PIXELS[:, :8]))
    model.transformer_decoder.memory_proj = nn.Identity()
    model.mask_embed.layers[-1] = nn.Linear(16, 8)
    assert model(toy.make_features(), all_layers=False)[0].mask_logits(0).shape == (7, 16, 24)


class KeyedPixels(nn.Module):
    """A pixel decoder that takes a mapping of features."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.memory_channels = decoder, decoder.memory_channels

    def forward(self, features):
        return self.decoder(list(features.values()))


@pytest.mark.parametrize('all_layers', [False, True])
def test_features_may_have_any_form_that_a_pixel_decoder_takes(all_layers):
    model, features = toy.make_classifier(), toy.make_features()
    expected = model(features, all_layers=all_layers)
    model.pixel_decoder = KeyedPixels(model.pixel_decoder)
    found = model(dict(zip('abcd', features, strict=True)), all_layers=all_layers)
    torch.testing.assert_close([x.class_logits for x in found], [x.class_logits for x in expected], rtol=0, atol=0)
    model.transformer_decoder = GivenStates([torch.rand(2, 7, 16), torch.rand(3, 7, 16)])
    with pytest.raises(
        ValueError, match=r'\(3, 7, 16\) float32 for decoder layer 2 of 2; expected \(B, Q, 16\) float32'
    ):
        model(dict(zip('abcd', features, strict=True)), all_layers=all_layers)


class NamedWidths(MLP):
    """An MLP with attributes of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.in_channels, self.out_channels = 'in', 'out'


def test_layers_derived_from_ours_may_have_attributes_of_any_name():
    model = toy.make_classifier()
    expected = model(toy.make_features(), all_layers=False)[0].mask_logits(0)
    embed = NamedWidths(16, 16, 16, len(model.mask_embed.layers))
    embed.load_state_dict(model.mask_embed.state_dict())
    model.mask_embed = embed
    torch.testing.assert_close(model(toy.make_features(), all_layers=False)[0].mask_logits(0), expected)


def test_lazy_layers_take_any_width():
    model = toy.make_classifier()
    model.class_embed, model.transformer_decoder.memory_proj = nn.LazyLinear(6), nn.LazyConv2d(16, 1)
    model.mask_embed.layers[0] = nn.LazyLinear(16)
    assert model(toy.make_features(), all_layers=False)[0].class_logits.shape == (2, 7, 6)


def converting(layer, dtype):
    """Let a layer convert its input, as offloaded weights do: with a ``forward`` of its own."""
    original = layer.forward
    layer.to(dtype).forward = lambda x: original(x.to(dtype)).float()


def test_layers_may_convert_their_input():
    model = toy.make_classifier()
    expected = model(toy.make_features(), all_layers=False)[0].class_logits
    for layer in (model.class_embed, model.transformer_decoder.memory_proj):
        converting(layer, torch.float64)
    torch.testing.assert_close(model(toy.make_features(), all_layers=False)[0].class_logits, expected)


def test_hooks_on_all_modules_may_convert_the_input():
    model = toy.make_classifier()
    model.class_embed.double()
    handle = register_module_forward_pre_hook(lambda m, args: (args[0].double(),) if m is model.class_embed else args)
    try:
        assert model(toy.make_features(), all_layers=False)[0].class_logits.dtype == torch.float64
    finally:
        handle.remove()


def test_checks_convert_no_traced_size_to_a_number():
    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = toy.make_classifier().eval()

        def forward(self, *features):
            return self.model(list(features), all_layers=False)[0].class_logits

    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter('always')
        torch.jit.trace(Logits(), tuple(toy.make_features()), check_trace=False)
    assert not [str(warning.message) for warning in caught if 'to a Python number' in str(warning.message)]


@pytest.mark.parametrize('boxes', [torch.rand(2, 7, 3), torch.rand(2, 6, 4), torch.ones(2, 7, 4, dtype=torch.long)])
def test_boxes_that_do_not_fit_are_refused(boxes):
    predictions = [prediction._replace(boxes_cxcywh=boxes) for prediction in toy.make_predictions()]
    criterion = SetCriterion(num_classes=5, matcher=BoxMatcher())
    with pytest.raises(ValueError, match=r'decoder layer 1 of 2: boxes_cxcywh are \(2, .*; expected \(2, 7, 4\) float'):
        criterion(predictions, [toy.make_target(3), toy.make_target(2)])


LOGITS = torch.rand(2, 5, 8, 12)


@pytest.mark.parametrize('criterion', [PixelCrossEntropy, PixelMaskLosses])
@pytest.mark.parametrize(
    'predictions, message',
    [
        ([Plain(LOGITS[:, :4])], r'found logits of 4 classes of 2 images .*; expected 5 classes, and 2 images'),
        (
            [Plain(LOGITS), Plain(torch.rand(4, 5, 8, 12))],
            'decoder layer 2 of 2: found logits of 5 classes of 4 images',
        ),
        ([Plain(LOGITS[:, :, :0])], r'on a grid of \(0, 12\)'),
        ([Plain(LOGITS[0])], r'masks.all_logits \(Plain\) is \(5, 8, 12\) float32; expected \(B, Q, h, w\)'),
        ([LOGITS], 'decoder layer 1 of 1: masks are a Tensor; expected Product, Folded or Plain'),
        ([MaskPrediction(LOGITS, Plain(LOGITS))], 'masks are a MaskPrediction; expected'),
        (Plain(LOGITS), 'predictions are a Plain; expected a list'),
        ([], 'predictions are a list; expected a list of the masks of K classes, one per layer'),
    ],
)
def test_logits_of_pixels_that_do_not_fit_are_refused(criterion, predictions, message):
    with pytest.raises(ValueError, match=message):
        criterion(num_classes=5)(predictions, [toy.make_target(3), toy.make_target(2)])


@pytest.mark.parametrize('criterion', [PixelCrossEntropy, PixelMaskLosses])
def test_an_index_of_the_next_image_is_refused(criterion):
    targets = [toy.make_target(3), toy.make_target(2)]
    targets[0].segment_map[0, 0] = 3
    with pytest.raises(ValueError, match='target 0 of the batch: segment_map holds index 3, but there are 3 labels'):
        criterion(num_classes=5)([Plain(LOGITS)], targets)
    with pytest.raises(ValueError, match=r'labels \[5\] of true segments are outside the class list'):
        criterion(num_classes=5)(
            [Plain(LOGITS)], [toy.make_target(3), targets[1]._replace(labels=torch.tensor([5, 1]))]
        )


def test_a_hook_may_convert_the_input_of_a_layer():
    model = toy.make_classifier(encoder_layers=1)
    model.transformer_decoder = GivenStates([STATES[0].double()])
    model.mask_embed.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
    with pytest.raises(ValueError, match=r'GivenStates returned \(2, 7, 16\) float64'):
        model(toy.make_features(), all_layers=True)
    model.class_embed.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
    assert model(toy.make_features(), all_layers=True)[0].class_logits.dtype == torch.float32
