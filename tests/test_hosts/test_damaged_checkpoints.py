"""The hosts' functions for single images refuse weights from which predictions would be random."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from PIL import Image

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed

from mmdet.apis import DetInferencer, inference_detector, init_detector  # isort: skip
from mmseg.apis import MMSegInferencer, inference_model, init_model  # isort: skip

DOORS = {
    'init_model': ('semantic', lambda trained, image: inference_model(loaded(init_model, trained), image)),
    'MMSegInferencer': ('semantic', lambda trained, image: loaded(MMSegInferencer, trained)(image)),
    'init_detector': ('panoptic', lambda trained, image: inference_detector(loaded(init_detector, trained), image)),
    'DetInferencer': ('instance', lambda trained, image: loaded(DetInferencer, trained)(image, return_datasamples=1)),
}
KEY_BIAS = 'layers.0.self_attn.in_proj_bias'
CONV, MEAN, VAR, EMBED = 'conv1.weight', 'running_mean', 'running_var', 'query_embed.weight'


def loaded(load: Callable, trained):
    return load(str(trained.config), str(trained.checkpoint), device='cpu')


def with_one(value: float):
    """Replace the value in the middle: of an attention's bias, that is one of a key."""

    def change(weight):
        weight = weight.clone()
        weight.view(-1)[weight.numel() // 2] = value
        return weight

    return change


DAMAGES = {
    # torch's attention suppresses NaN of keys, and a batch norm an infinite variance: all logits stay finite
    'NaN in a key': (KEY_BIAS, with_one(float('nan')), r'1 of its \d+ weights hold inf or NaN \(.*in_proj_bias\)'),
    'infinite mean': (MEAN, with_one(float('inf')), r'1 of its \d+ weights hold inf or NaN \(backbone.*running_mean\)'),
    'infinite variance': (VAR, with_one(float('inf')), r'1 of its \d+ weights hold inf or NaN \(backbone.*_var\)'),
    'beyond float32': (EMBED, lambda w: with_one(1e300)(w.double()), r'1 of its \d+ weights hold inf or NaN \(.*embed'),
    'quantised': (CONV, lambda w: w.to(torch.int8), r'1 of its \d+ weights are strided int8 \(backbone\.\S+\)'),
    'complex': (EMBED, lambda w: w + 1j, r'1 of its \d+ weights are strided complex64 \('),
    'sparse': (EMBED, lambda w: w.to_sparse(), r'1 of its \d+ weights are sparse_coo float32 \('),
    'without a convolution': (CONV, None, r'lacks 1 of the weights of the model, .* shape: backbone\.\S*conv1\.weight'),
    'a narrow convolution': (CONV, lambda w: w[:1], r'lacks 1 of the weights of the model, .*: backbone\.\S*conv1\.w'),
    'without a mean': (MEAN, None, r'lacks 1 of the weights of the model, .*running_mean'),
    'without queries': (EMBED, None, r'lacks 1 of the \d+ weights of the head'),
}  # fmt: skip


def changed(checkpoint: Mapping, ending: str, change: Callable | None) -> dict:
    """The checkpoint with one weight changed, or left out."""
    weights = dict(checkpoint['state_dict'])
    name = next(name for name in weights if name.endswith(ending))
    value = weights.pop(name)
    if change is not None:
        weights[name] = change(value)
    return dict(checkpoint, state_dict=weights)


@pytest.fixture(scope='module')
def image(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('image') / 'a.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def attempt(kinds, image, tmp_path):
    """Save a checkpoint, and let a function of a host predict with it."""

    def predict(door: str, change: Callable):
        kind, run = DOORS[door]
        torch.save(change(torch.load(kinds[kind].checkpoint, weights_only=True)), tmp_path / 'weights.pth')
        return run(kinds[kind]._replace(checkpoint=tmp_path / 'weights.pth'), image)

    return predict


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('door', DOORS)
def test_damaged_weights_are_named(attempt, door, damage):
    ending, change, message = DAMAGES[damage]
    with pytest.raises(ValueError, match=message):
        attempt(door, lambda checkpoint: changed(checkpoint, ending, change))


@pytest.mark.parametrize('door', ['init_model', 'init_detector'])
def test_files_without_named_weights_are_refused(attempt, door):
    with pytest.raises(ValueError, match=r'weights.pth: it is a list, expected a dict of weights'):
        attempt(door, lambda checkpoint: list(checkpoint['state_dict'].values()))
    with pytest.raises(ValueError, match=r"weights.pth: its 'state_dict' is a list, expected a dict"):
        attempt(door, lambda checkpoint: dict(checkpoint, state_dict=list(checkpoint['state_dict'].values())))
    with pytest.raises(ValueError, match=r"weights.pth: \d+ weights occur twice, with and without 'module.' \("):
        attempt(door, lambda checkpoint: {k: v for n, v in checkpoint['state_dict'].items() for k in (n, f'module.{n}')
                for v in [v]})  # fmt: skip


def with_prefix(checkpoint: Mapping) -> dict:
    return {f'module.{name}': value for name, value in checkpoint['state_dict'].items()}


@pytest.mark.parametrize('form', [lambda checkpoint: checkpoint['state_dict'], with_prefix], ids=['bare', 'prefix'])
@pytest.mark.parametrize(('kind', 'load'), [('semantic', init_model), ('panoptic', init_detector)])
def test_other_forms_of_the_same_weights_are_loaded(kinds, tmp_path, kind, load, form):
    checkpoint = torch.load(kinds[kind].checkpoint, weights_only=True)
    torch.save(form(checkpoint), tmp_path / 'weights.pth')
    model = load(str(kinds[kind].config), str(tmp_path / 'weights.pth'), device='cpu')
    found = model.state_dict()
    assert list(found) == list(checkpoint['state_dict'])
    assert all(torch.equal(found[name], value) for name, value in checkpoint['state_dict'].items())


def test_a_new_classifier_does_not_predict_before_it_is_trained(attempt, kinds, image):
    """A config for fine-tuning, given the checkpoint that it starts from."""
    model = init_model(str(kinds['semantic'].config), None, device='cpu')
    model.decode_head.on_class_mismatch = 'reinit'
    state = torch.load(kinds['semantic'].checkpoint, weights_only=True)['state_dict']
    name = 'decode_head.classifier.class_embed'
    for ending in ('.weight', '.bias'):
        state[name + ending] = torch.cat([state[name + ending]] * 2)
    model.load_state_dict(state)
    with pytest.raises(
        ValueError, match=r'lacks 2 of the \d+ weights of the head.*class_embed.bias, classifier.class_embed'
    ):
        inference_model(model, image)
