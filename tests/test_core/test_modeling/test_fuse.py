"""What `fuse_for_inference` changes; hooks, sharding and replaced layers are respected with and without it."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from helpers import toy
from torch import nn

from mmmaskformer.core.fast_paths import set_fast_paths
from mmmaskformer.core.masks import Folded, Product
from mmmaskformer.core.modeling.fuse import fuse_for_inference, run_fused
from mmmaskformer.core.modeling.layers import MLP

TARGETS = [toy.make_target(3, (64, 96)), toy.make_target(2, (64, 96))]


def make(**settings):
    torch.manual_seed(0)
    return toy.make_classifier(**settings).eval()


def own_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules with weights that are called once in a training step with one layer of predictions."""
    # What `nn.MultiheadAttention` does with its projections is torch's matter; the queries are a table, read whole.
    others = ('attn', 'query_embed')
    weighted = {name: m for name, m in model.named_modules() if list(m.parameters(recurse=False))}
    return {name: module for name, module in weighted.items() if not any(part in name for part in others)}


@pytest.mark.parametrize('all_layers', [True, False])
def test_a_forward_pass_depends_only_on_its_arguments(all_layers):
    model, features = make(), toy.make_features()
    with_gradients = model(features, all_layers=all_layers)
    with torch.no_grad():
        without = model(features, all_layers=all_layers)
    compiled = torch.compile(model, backend='eager')(features, all_layers=all_layers)
    for one, other, third in zip(with_gradients, without, compiled, strict=True):
        assert type(one.masks) is type(other.masks) is type(third.masks) is Product
        assert one.boxes_cxcywh is other.boxes_cxcywh is third.boxes_cxcywh is None
        for a, b, c in zip(one[:2], other[:2], third[:2], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else torch.equal(a.features, b.features)
            assert c is not None


def test_fusing_changes_only_time_and_rounding_and_training_undoes_it():
    model, features = make(), toy.make_features()
    plain = model(features, all_layers=False)[0]
    assert fuse_for_inference(model) is model
    with torch.no_grad():
        fused = model(features, all_layers=False)[0]
    assert isinstance(plain.masks, Product) and isinstance(fused.masks, Folded)
    torch.testing.assert_close(fused.class_logits, plain.class_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.mask_logits(1), plain.mask_logits(1), rtol=1e-4, atol=1e-5)
    model.train().eval()
    assert torch.equal(model(features, all_layers=False)[0].masks.features, plain.masks.features)
    with pytest.raises(ValueError, match='in training mode. Fix: call module.eval'):
        fuse_for_inference(model.train())


def test_a_fused_call_leaves_layers_as_they_were():
    model, features = make(), toy.make_features()
    with torch.no_grad():
        before = model(features, all_layers=False)[0]
        fused = run_fused(model, features, all_layers=False)[0]
        after = model(features, all_layers=False)[0]
        assert isinstance(fused.masks, Folded) and isinstance(after.masks, Product)
        assert torch.equal(before.masks.features, after.masks.features)
        fuse_for_inference(model)
        run_fused(model, features, all_layers=False)
        assert isinstance(model(features, all_layers=False)[0].masks, Folded), 'what was fused stays so'
        model.train()
        assert isinstance(run_fused(model, features, all_layers=False)[0].masks, Product)
        with pytest.raises(ValueError, match='features have the shapes'):
            run_fused(model.eval(), features[:2], all_layers=False)
    assert not model.pixel_decoder.is_fused


class Waiting(nn.Module):
    """Calls a model while another thread is between `begin` and `end`."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.begin, self.end = threading.Event(), threading.Event()

    def forward(self, features):
        self.begin.set()
        assert self.end.wait(60)
        return self.model(features, all_layers=False)[0]


@torch.no_grad()
def test_a_fused_call_does_not_change_calls_of_other_threads():
    model, features = make(), toy.make_features()
    waiting = Waiting(model).eval()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(torch.no_grad()(run_fused), waiting, features)
        assert waiting.begin.wait(60)
        here = model(features, all_layers=False)[0]
        fused_here = run_fused(model, features, all_layers=False)[0]
        waiting.end.set()
        there = other.result(60)
    assert isinstance(here.masks, Product)
    assert isinstance(fused_here.masks, Folded) and isinstance(there.masks, Folded)
    assert torch.equal(fused_here.class_logits, there.class_logits)
    assert torch.equal(fused_here.mask_logits(1), there.mask_logits(1))


@torch.no_grad()
def test_a_fused_call_of_a_compiled_model_is_fused_and_others_are_not():
    model, features = make(), toy.make_features()
    expected = model(features, all_layers=False)[0].mask_logits(1)
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    whole = torch.compile(lambda x: run_fused(model, x, all_layers=False), backend='eager', fullgraph=True)
    other_thread = ThreadPoolExecutor(1)
    with torch.no_grad():
        for _ in range(2):
            for call, kind in (
                (lambda: run_fused(compiled, features, all_layers=False), Folded),
                (lambda: whole(features), Folded),
                (lambda: compiled(features, all_layers=False), Product),
                (
                    lambda: run_fused(lambda: other_thread.submit(compiled, features, all_layers=False).result()),
                    Product,
                ),
            ):
                found = call()[0]
                assert isinstance(found.masks, kind)
                torch.testing.assert_close(found.mask_logits(1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'name, layer',
    [
        ('top_conv', nn.Identity()),
        ('top_conv.conv', nn.Identity()),
        ('lateral_convs.0', nn.Identity()),
        ('lateral_convs.0', nn.Conv2d(8, 8, 1)),
        ('lateral_convs.0.conv', nn.Identity()),
        ('output_convs.0.norm', nn.Identity()),
        ('output_convs.1.conv', nn.Sequential(nn.Conv2d(8, 8, 1))),
    ],
)
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_replaced_layers_are_used_and_features_are_not_overwritten(name, layer, memory_format):
    model = make(in_channels=(8, 8, 8, 8), channels=8)
    features = [x.contiguous(memory_format=memory_format) for x in toy.make_features(in_channels=(8, 8, 8, 8))]
    copies = [x.clone() for x in features]
    parent, _, last = name.rpartition('.')
    setattr(model.pixel_decoder.get_submodule(parent), last, layer)
    with torch.no_grad():
        plain, fused = (call(features, all_layers=False)[0] for call in (model, partial(run_fused, model)))
    assert all(torch.equal(a, b) for a, b in zip(features, copies, strict=True))
    torch.testing.assert_close(fused.mask_logits(1), plain.mask_logits(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.class_logits, plain.class_logits, rtol=1e-4, atol=1e-5)


def test_an_identity_in_the_place_of_a_linear_layer_keeps_its_input():
    mlp = MLP(4, 4, 4, 2)
    mlp.layers[0] = nn.Identity()
    x = torch.randn(3, 4)
    expected = mlp.layers[1](x.relu())
    assert torch.equal(mlp(x), expected) and (x < 0).any()


def test_fusing_is_undone_by_name_and_by_switch():
    model, features = fuse_for_inference(make()), toy.make_features()
    before = set_fast_paths(fused_inference=False)
    try:
        assert isinstance(model(features, all_layers=False)[0].masks, Product)
    finally:
        set_fast_paths(**before)
    assert isinstance(model(features, all_layers=False)[0].masks, Folded)
    fuse_for_inference(model, enabled=False)
    assert isinstance(model(features, all_layers=False)[0].masks, Product)


def test_a_fused_model_still_gives_gradients():
    model = make().double()
    features = [x.double().requires_grad_() for x in toy.make_features()]
    leaves = [*features, *model.parameters()]
    gradients = []
    for network in (model, fuse_for_inference(copy.deepcopy(model))):
        leaves = [*features, *network.parameters()]
        losses = toy.make_criterion()(network(features, all_layers=True), TARGETS)
        gradients.append((losses, torch.autograd.grad(sum(losses.values()), leaves)))
    for key, value in gradients[0][0].items():
        torch.testing.assert_close(gradients[1][0][key], value)
    for found, expected in zip(gradients[1][1], gradients[0][1], strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('gradients', [False, True])
def test_every_module_is_called_and_tensors_of_hooks_are_kept(fused, gradients):
    model, features = make(encoder_layers=1), toy.make_features()
    seen, calls = {}, set()
    modules = own_modules(model)

    def hook(module, inputs, output, name):
        calls.add(name)
        if isinstance(output, torch.Tensor):
            seen.setdefault(name, []).append((output, output.clone()))

    for name, module in modules.items():
        module.register_forward_hook(lambda *of_call, name=name: hook(*of_call, name))
    if fused:
        fuse_for_inference(model)
    with torch.set_grad_enabled(gradients):
        model(features, all_layers=False)[0].mask_logits(0)
    assert calls == set(modules)
    for name, outputs in seen.items():
        assert all(torch.equal(output, copied) for output, copied in outputs), f'{name} was overwritten'


@pytest.mark.parametrize('kind', ['forward', 'forward_pre', 'full_backward'])
def test_hooks_on_the_last_convolution_take_part_in_training(kind):
    model, features = make(), toy.make_features()
    conv = model.pixel_decoder.mask_conv
    calls = []
    getattr(conv, f'register_{kind}_hook')(lambda *_: calls.append(kind))
    losses = toy.make_criterion()(model(features, all_layers=True), TARGETS)
    sum(losses.values()).backward()
    assert calls == [kind]


@pytest.mark.parametrize('on_all', [False, True])
@pytest.mark.parametrize('kind', ['forward', 'full_backward_pre', 'full_backward'])
def test_hooks_on_any_module_are_called_once_in_a_training_step(kind, on_all):
    model, features = make(encoder_layers=1, num_layers=1), toy.make_features()
    modules, called = own_modules(model), []
    names = {module: name for name, module in modules.items()}

    def hook(module, *rest):
        if module in names:
            assert kind == 'forward' or rest[-1][0].any(), f'the output of {names[module]} has no gradient'
            called.append(names[module])

    if on_all:
        handles = [getattr(nn.modules.module, f'register_module_{kind}_hook')(hook)]
    else:
        handles = [getattr(module, f'register_{kind}_hook')(hook) for module in modules.values()]
    try:
        losses = toy.make_criterion()(model(features, all_layers=True), TARGETS)
        sum(losses.values()).backward()
    finally:
        for handle in handles:
            handle.remove()
    assert sorted(called) == sorted(modules)


def test_hooks_and_parametrisations_of_the_last_convolution_are_trained():
    model, features = make().double(), [x.double() for x in toy.make_features()]
    conv = model.pixel_decoder.mask_conv
    expected = toy.make_criterion()(model(features, all_layers=True), TARGETS)
    conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    doubled = toy.make_criterion()(model(features, all_layers=True), TARGETS)
    assert not torch.allclose(doubled['loss_mask'], expected['loss_mask'])
    conv._forward_hooks.clear()
    nn.utils.parametrizations.weight_norm(conv)
    same = toy.make_criterion()(model(features, all_layers=True), TARGETS)
    torch.testing.assert_close(same['loss_mask'], expected['loss_mask'])
    sum(same.values()).backward()
    assert conv.parametrizations.weight.original0.grad.any()
    model.pixel_decoder.mask_conv = nn.Identity()
    assert model(features, all_layers=True)[0].masks.made_by is None


def test_every_output_of_a_prediction_has_gradients():
    model = make().double()
    features = [x.double().requires_grad_() for x in toy.make_features()]
    conv = model.pixel_decoder.mask_conv
    for prediction in model(features, all_layers=True):
        logits = torch.einsum('bqc,bchw->bqhw', prediction.masks.embed, prediction.masks.features)
        weights = torch.rand_like(logits)
        direct = torch.autograd.grad((logits * weights).sum(), [conv.weight, *features], retain_graph=True)
        found = torch.stack([prediction.mask_logits(image) for image in range(2)])
        through = torch.autograd.grad((found * weights).sum(), [conv.weight, *features], retain_graph=True)
        for a, b in zip(direct, through, strict=True):
            torch.testing.assert_close(a, b)
