"""Parameters, optimiser groups and FLOPs of a config's model, without memory for its weights."""

from collections import defaultdict
from importlib import import_module

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work
from mmmaskformer.core.inference.semantic import scores_at_input
from mmmaskformer.export.modules import head_of

COCO_INPUT, COCO_OUTPUT = (800, 1152), (480, 640)
"""Network input and image size that stand for the 100 unnamed COCO images over which the paper averages FLOPs; with
this size, all six values of the paper are reproduced within 2 %."""


class _OnCPU(TorchFunctionMode):
    """Builds the few tensors whose values a constructor reads on the CPU, and everything else on the meta device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        # Swin's drop path rates; which classes are things
        if func is torch.linspace or (func is torch.zeros and kwargs.get('dtype') is torch.bool):
            kwargs.setdefault('device', 'cpu')
        return func(*args, **kwargs)


def build_on_meta(config: Config) -> nn.Module:
    """Build the model of a config on the meta device.

    Args:
        config: config of a training run. Pre-trained weights that it names are not loaded.
    """
    cfg = config.model.copy()
    cfg.backbone = dict(cfg.backbone)
    cfg.backbone.pop('init_cfg', None)
    import_module(f'{config.default_scope}.models')
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.device('meta'), _OnCPU():
        return MODELS.build(cfg)


def groups_of(model: nn.Module, config: Config) -> dict[str, int]:
    """Number of trainable parameters for each learning rate and weight decay of the config's optimiser."""
    with DefaultScope.overwrite_default_scope(config.default_scope):
        optimizer = build_optim_wrapper(model, config.optim_wrapper.copy()).optimizer
    found: dict[str, int] = defaultdict(int)
    for group in optimizer.param_groups:
        key = f'lr {group["lr"]:g}, decay {group["weight_decay"]:g}'
        found[key] += sum(parameter.numel() for parameter in group['params'])
    return dict(found)


def flops_of(model: nn.Module, size: tuple[int, int], output_size: tuple[int, int] | None = None) -> float:
    """Multiply-adds of one image: backbone, head, the last layer's mask logits and the sum over queries.

    These are the operations that the paper counts, including the mask features; our test step needs fewer. A
    multiply-add counts as one operation, as in the paper.

    Args:
        model: model of either host, on the meta device.
        size: (height, width) of the network's input.
        output_size: size at which the sum over queries is computed; None for the size of the input.
    """
    head = head_of(model)
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        # With gradients on, mask features are computed, not folded away.
        features = model.eval().extract_feat(torch.zeros(1, 3, *size))  # type: ignore[operator]
        prediction = head.classifier(features, all_layers=False)[-1]  # type: ignore[operator]
        if getattr(head, 'has_class_logits', True):
            scores_at_input(prediction.class_logits[0], prediction.mask_logits(0), output_size or size)
        else:
            prediction.multiplied_out()  # the logits of a per-pixel model are the scores
    return counter.get_total_flops() / 2
