"""The hosts' own scripts, run with small versions of our shipped configs: one model of each kind."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from helpers import runs
from helpers.panoptic import write_instances
from mmmaskformer.datasets.scenes.files import write_scenes

INSTANCE = """
_base_ = {base!r}
data = dict(
    data_root={root!r}, ann_file='instances.json', data_prefix=dict(img='images'),
    metainfo=dict(classes=('person', 'bicycle'), palette=[(220, 20, 60), (119, 11, 32)]),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(96, 64), keep_ratio=True),
    dict(type='mmdet.PackDetInputs'),
]
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={root!r} + '/instances.json')
test_evaluator = val_evaluator
small = dict(num_layers=1, num_heads=2, ffn_channels=16)
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    panoptic_head=dict(
        in_channels=[8, 16, 32, 64], channels=16, num_queries=10, transformer_decoder=small,
        pixel_decoder=dict(norm_groups=4, **small), num_classes=2, things=[0, 1],
    ),
)
"""


class Trained(NamedTuple):
    """A config file and weights for it."""

    config: Path
    checkpoint: Path


def script(host: str, name: str) -> str:
    """Path of a script of an installed host, for example ``script('mmdet', 'test.py')``."""
    return str(Path(find_spec(host).submodule_search_locations[0]) / '.mim/tools' / name)


def run_tool(host: str, name: str, *arguments, cwd: Path, check: bool = True) -> str:
    """The output of a host's script."""
    done = runs.run_script(script(host, name), *map(str, arguments), cwd=cwd, check=check)
    return done.stdout + done.stderr


def write_kinds(root: Path) -> dict[str, Trained]:
    """Small models 'semantic', 'panoptic' and 'instance' with random weights that predict something, and their data."""
    write_scenes(root / 'scenes', 2, 3)
    write_instances(root / 'coco', ('person', 'bicycle'), ann_file='instances.json', img='images', size=(64, 96))
    thresholds = 'model["test_cfg"] = dict(panoptic=dict(object_threshold=0.0, overlap_threshold=0.3), semantic=dict())'
    configs = {
        'semantic': runs.write_config(root / 'semantic.py', root / 'scenes'),
        'panoptic': runs.write_config(root / 'panoptic.py', root / 'scenes', panoptic=True, more=thresholds),
        'instance': root / 'instance.py',
    }
    base = runs.ROOT / 'configs/coco_instance/maskformer_r50-6enc_64xb1-554k_coco-instance.py'
    configs['instance'].write_text(INSTANCE.format(base=str(base), root=str(root / 'coco')))
    return {kind: Trained(config, _write_weights(config)) for kind, config in configs.items()}


@cache
def built(config: Path):
    """The model of a config, in evaluation mode, with the weights stored by `write_kinds`."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(config.with_suffix('.pth'), weights_only=False)['state_dict'])
    return model.eval()


def _write_weights(config: Path) -> Path:
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    head = model.decode_head if hasattr(model, 'decode_head') else model.panoptic_head
    with torch.no_grad():  # so that queries differ in class and position
        torch.nn.init.normal_(head.classifier.class_embed.weight, std=1.0)
        torch.nn.init.normal_(head.classifier.mask_embed.layers[-1].weight, std=3.0)
    torch.save(dict(state_dict=model.state_dict(), meta={}), config.with_suffix('.pth'))
    return config.with_suffix('.pth')
