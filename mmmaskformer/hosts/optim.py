"""The published optimiser groups, and bfloat16 training without a GPU."""

import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.modules.batchnorm import _NormBase

from mmmaskformer.core.checks import (
    BOOLEAN,
    FRACTION,
    MAPPING,
    POSITIVE,
    Check,
    check_settings,
    checked,
    list_of,
    number,
    one_of,
    refuse_unknown_keys,
    whole,
)
from mmmaskformer.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

NO_DECAY_MODULES = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm, nn.Embedding)
NO_DECAY_NAMES = ('relative_position_bias_table', 'absolute_pos_embed')

OPTIMIZER_SETTINGS = {
    **dict.fromkeys(('lr', 'weight_decay', 'eps', 'momentum'), number(0)),
    'betas': list_of(FRACTION, 2),
    'amsgrad': BOOLEAN,
}
WRAPPER_SETTINGS = {'accumulative_counts': whole(1), 'clip_grad': MAPPING.or_none()}
CLIPPING = {
    'norm': {
        # a negative limit would reverse the gradient, 0 would stop the training
        'max_norm': POSITIVE,
        'norm_type': Check(
            'a number above 0, or inf', lambda value: POSITIVE.accepts(value) or value in ('inf', math.inf)
        ),
        'error_if_nonfinite': BOOLEAN,
        'foreach': BOOLEAN.or_none(),
    },
    'value': {'clip_value': POSITIVE, 'foreach': BOOLEAN.or_none()},
}
"""What ``optim_wrapper.clip_grad`` may hold, by its ``type``; torch does not check it before the first step."""


@OPTIM_WRAPPERS.register_module()
@checked(accumulative_counts=whole(1), clip_grad=MAPPING.or_none())
class BFloat16OptimWrapper(OptimWrapper):
    """Trains under bfloat16 autocast without loss scaling, on any device; used for ``--amp`` without a GPU."""

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Run the forward pass under autocast."""
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
@checked(optim_wrapper_cfg=MAPPING, paramwise_cfg=MAPPING.or_none())
class PublishedOptimWrapperConstructor:
    """Builds the optimiser with the published learning rates and decay exceptions, for any backbone.

    The backbone's learning rate is multiplied by ``backbone_lr_mult``. Weight decay applies to biases, but not to norm
    layers, embeddings (the queries) and Swin's bias tables. mmengine's own constructor cannot express this for a
    backbone that has both norm layers and a learning rate of its own.

    Under FSDP, ``clip_grad=dict(max_norm=…)`` uses the norm of the whole gradient; mmengine would clip the shard of
    each process by the norm of that shard.

    Args:
        optim_wrapper_cfg: mmengine's config, with ``optimizer``.
        paramwise_cfg: ``dict(backbone_lr_mult=…)``.

    Raises:
        TypeError: if ``paramwise_cfg`` or ``clip_grad`` has an unknown key.
        ValueError: if a setting of the optimiser, of clipping or of gradient accumulation has the wrong type or range.

    Source: paper, section 4.1; official code, train_net.Trainer.build_optimizer.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        settings = dict(paramwise_cfg or {})
        self.backbone_lr_mult = settings.pop('backbone_lr_mult', 1.0)
        if settings:
            raise TypeError(
                f'optim_wrapper.paramwise_cfg has the unknown key {next(iter(settings))!r}; '
                "mmmaskformer's constructor takes only 'backbone_lr_mult'. Fix: remove it, or set "
                "optim_wrapper.constructor='DefaultOptimWrapperConstructor' for mmengine's own keys."
            )
        check_settings('optim_wrapper.paramwise_cfg', paramwise_cfg or {}, {'backbone_lr_mult': number(0)})
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = self.optim_wrapper_cfg.pop('optimizer')
        given = {'lr': None} | dict(self.optimizer_cfg)
        check_settings('optim_wrapper.optimizer', given, OPTIMIZER_SETTINGS)
        check_settings('optim_wrapper', self.optim_wrapper_cfg, WRAPPER_SETTINGS)
        _check_clipping(self.optim_wrapper_cfg.get('clip_grad') or {})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optim wrapper of ``model``."""
        sharded = model if isinstance(model, FullyShardedDataParallel) else None
        model = getattr(model, 'module', model)
        lr, decay = self.optimizer_cfg['lr'], self.optimizer_cfg.get('weight_decay', 0.0)
        groups = defaultdict(list)
        for name, parameter, decayed in _trainable_parameters(model):
            lr_mult = self.backbone_lr_mult if 'backbone' in name.split('.') else 1.0
            groups[lr * lr_mult, decay if decayed else 0.0].append(parameter)
        groups = [dict(params=params, lr=lr, weight_decay=wd) for (lr, wd), params in groups.items()]
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        wrapper_cfg = self._without_gpu_scaling(dict(type='OptimWrapper') | self.optim_wrapper_cfg)
        wrapper = OPTIM_WRAPPERS.build(dict(wrapper_cfg, optimizer=optimizer))
        if sharded is not None and getattr(wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:
            wrapper.clip_func = lambda parameters, **limits: sharded.clip_grad_norm_(**limits)
        return wrapper

    @staticmethod
    def _without_gpu_scaling(cfg: dict) -> dict:
        """Replace mmengine's AmpOptimWrapper, which needs a GPU, by bfloat16 autocast, which does not."""
        if cfg['type'] != 'AmpOptimWrapper' or get_device() != 'cpu':
            return cfg
        print_log('--amp without a GPU: training under bfloat16 autocast.', logger='current', level=logging.WARNING)
        return {
            key: 'mmmaskformer.BFloat16OptimWrapper' if key == 'type' else value
            for key, value in cfg.items()
            if key not in ('loss_scale', 'dtype')
        }


def _check_clipping(clip_grad: Mapping) -> None:
    """Raise a `ValueError` or `TypeError` that names the wrong key of ``optim_wrapper.clip_grad``."""
    where, kind = 'optim_wrapper.clip_grad', clip_grad.get('type', 'norm')
    check_settings(where, dict(type=kind), dict(type=one_of(*CLIPPING)))
    refuse_unknown_keys(where, clip_grad, {'type', *CLIPPING[kind]})
    check_settings(where, clip_grad, CLIPPING[kind])


def _trainable_parameters(model: nn.Module):
    """Yield (name, parameter, whether it is decayed), shared parameters once."""
    seen = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            decayed = not isinstance(module, NO_DECAY_MODULES) and name not in NO_DECAY_NAMES
            yield f'{module_name}.{name}', parameter, decayed
