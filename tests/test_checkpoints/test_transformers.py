"""Models of transformers, converted in both directions, with the library itself as the oracle.

A known defect of the library does not affect these tests: with use_auxiliary_loss, the logits of its earlier layers
come from states without the final norm.
"""

import json

import numpy as np
import pytest
import torch
from helpers.foreign import CLASSES, SETTINGS, architecture
from safetensors.torch import load_file

from mmmaskformer.apis.converting import convert_checkpoint
from mmmaskformer.apis.model_configs import own_config
from mmmaskformer.apis.verifying import build, outputs
from mmmaskformer.checkpoints.convert import convert
from mmmaskformer.checkpoints.preprocessors import hub_preprocessor
from mmmaskformer.checkpoints.settings import Settings
from mmmaskformer.checkpoints.transformers_files import hub_config
from mmmaskformer.checkpoints.writers import write_transformers
from mmmaskformer.core import QueryMasks, semantic_labels

transformers = pytest.importorskip('transformers')  # of the extra [test]
LIMIT = 1e-5


@pytest.fixture(scope='module', params=['resnet', 'swin'])
def folder(request, tmp_path_factory):
    """A model that the library built and saved, with random values in all parameters and statistics."""
    path = tmp_path_factory.mktemp('hub') / request.param
    config = hub_config(architecture(request.param), SETTINGS)
    model = transformers.MaskFormerForInstanceSegmentation(transformers.MaskFormerConfig.from_dict(config))
    torch.manual_seed(0)
    unread = ('criterion.', 'model.pixel_level_module.encoder.model.layernorm.')
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not name.startswith(unread):
            value.normal_(std=0.2).abs_().add_(0.1) if value.dim() == 1 else value.normal_(std=0.2)
    model.eval().save_pretrained(path)
    transformers.MaskFormerImageProcessor(size=dict(shortest_edge=96, longest_edge=320)).save_pretrained(path)
    return path


def test_logits_are_those_of_the_library_and_the_reverse_conversion_is_exact(folder, tmp_path):
    for to, name in (('mmmaskformer', 'a.pth'), ('official', 'b.pkl')):
        report = convert_checkpoint(folder, tmp_path / name, to, verify=to == 'mmmaskformer')
        assert all(x.largest < LIMIT * max(1, x.scale) for x in report.differences), report.differences
        assert len(report.differences) == (2 if to == 'mmmaskformer' else 0)
        convert_checkpoint(tmp_path / name, tmp_path / f'back{to}', 'transformers', num_heads=4)
        before, after = (load_file(path / 'model.safetensors') for path in (folder, tmp_path / f'back{to}'))
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[key]) and value.dtype == after[key].dtype for key, value in before.items())
    meta = torch.load(tmp_path / 'a.pth', weights_only=True)['meta']
    assert meta['dataset_meta']['classes'] == list(CLASSES) and meta['num_heads'] == 4
    assert 'short_edge=96' in meta['cfg'] and 'max_size=320' in meta['cfg']


def test_values_differ_enough_for_the_comparison(folder):
    state = load_file(folder / 'model.safetensors')
    found = outputs('transformers', state, architecture(folder.name), SETTINGS, torch.randn(1, 3, 64, 96))
    assert found.class_logits.std() > 0.01 and found.mask_logits.std() > 0.01


@pytest.mark.parametrize('net', ['resnet', 'swin'])
def test_from_pretrained_and_its_image_processor_reproduce_our_semantic_map(tmp_path, net):
    settings = Settings(num_heads=4, classes=CLASSES, short_edge=96, max_size=200)
    shape = architecture(net)
    image = np.random.default_rng(0).integers(0, 256, (75, 107, 3), np.uint8)
    processor = transformers.MaskFormerImageProcessor(**hub_preprocessor(settings))
    values = processor(image, return_tensors='pt').pixel_values
    assert values.shape[2:] == (96, 160)  # resized to multiples of 32, as the library does
    ours, class_logits, mask_logits, expected = decided_model(own_config(shape, settings, 'semantic'), values)
    weights = ours.state_dict()
    hub = convert(weights, 'mmmaskformer', 'transformers').weights
    write_transformers(tmp_path / 'hub', hub, hub_config(shape, settings), hub_preprocessor(settings))
    model = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path / 'hub').eval()
    processor = transformers.MaskFormerImageProcessor.from_pretrained(tmp_path / 'hub')
    assert model.config.id2label == dict(enumerate(CLASSES))
    inputs = processor(image, return_tensors='pt')
    torch.testing.assert_close(inputs.pixel_values, values, rtol=0, atol=0)
    with torch.no_grad():
        found = model(**inputs)
    for theirs, own in ((found.class_queries_logits, class_logits), (found.masks_queries_logits, mask_logits)):
        torch.testing.assert_close(theirs, own, rtol=0, atol=LIMIT * max(1, float(own.abs().max())))
    (labels,) = processor.post_process_semantic_segmentation(found)
    assert torch.equal(labels.to(expected.dtype), expected)


@torch.no_grad()
def decided_model(cfg, values):
    """A model of ours with several labels in the image, its logits, and its label map on their grid."""
    for seed in range(20):
        torch.manual_seed(seed)
        model = build(cfg)
        head = model.decode_head.classifier
        head.class_embed.weight *= 12
        head.mask_embed.layers[-1].weight *= 20
        head.transformer_decoder.query_embed.weight *= 10
        class_logits, mask_logits = model.decode_head(model.extract_feat(values))
        grid = tuple(mask_logits.shape[2:])
        labels = semantic_labels(class_logits[0], QueryMasks.of_logits(mask_logits[0], grid, grid, grid))
        if len(labels.unique()) > 1:
            return model, class_logits, mask_logits, labels
    raise AssertionError('20 seeds gave no varied labels')


def test_normalisation_is_ours(tmp_path):
    settings = Settings(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0), short_edge=64, max_size=96)
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(hub_preprocessor(settings)))
    processor = transformers.MaskFormerImageProcessor.from_pretrained(tmp_path)
    values = processor(np.full((64, 64, 3), 100, np.uint8), return_tensors='pt').pixel_values
    torch.testing.assert_close(values[0, :, 5, 5], torch.tensor([90.0, 40.0, 17.5]))


def test_group_counts_that_the_library_lacks_are_refused():
    with pytest.raises(ValueError, match='32 groups in every GroupNorm .* the model has norm_groups=8'):
        hub_config(architecture(), Settings(norm_groups=8))
