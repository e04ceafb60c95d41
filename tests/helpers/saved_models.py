"""Checkpoints of small models as mmengine's runner saves them, with the predictions of its test loop."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import mmengine
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from helpers.runs import ROOT

FAMILY = """
_base_ = {bases!r}
settings = dict(
    num_classes=_base_.num_classes,
    channels=16,
    pixel_decoder=dict(norm_groups=4),
    transformer_decoder=dict(num_layers=1, num_heads=2, ffn_channels=16),
)
model = dict(decode_head=settings)
"""
PANOPTIC_FAMILY = """
model = dict(
    panoptic_head=dict(settings, things=_base_.things),
    test_cfg=dict(_delete_=True, {result}=dict()),
)
"""


class SavedModel(NamedTuple):
    """A trained model.

    Attributes:
        config: the config file.
        checkpoint: written by the runner, with the config and the class list.
        results: the data sample of the test loop as a dict, for each image of the test set in its order.
    """

    config: Path
    checkpoint: Path
    results: list[dict]


def save_model(config: Path, varied: Callable[[list[dict]], bool]) -> SavedModel:
    """Save a model whose predictions vary, and run the test loop with it.

    Args:
        config: file with an untrained model; results are written to a folder next to it.
        varied: whether results of the test loop vary enough to be compared; seeds are tried until they do.
    """
    cfg = Config.fromfile(config)
    cfg.work_dir = str(config.with_suffix(''))
    dump = str(config.with_suffix('.pkl'))
    cfg.test_evaluator = [dict(type='DumpResults', out_file_path=dump)]
    runner = Runner.from_cfg(cfg)
    for seed in range(30):
        runner.model.load_state_dict(decided_model(cfg, seed).state_dict())
        runner.test()
        results = mmengine.load(dump)
        if varied(results):
            break
    else:
        raise AssertionError('30 seeds gave no varied predictions')
    checkpoint = config.with_suffix('.pth')
    runner.save_checkpoint(
        str(config.parent), checkpoint.name, save_optimizer=False, save_param_scheduler=False, by_epoch=False
    )
    return SavedModel(config, checkpoint, results)


def decided_model(cfg: Config, seed: int) -> nn.Module:
    """The untrained model of a config, made confident and with different queries."""
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    head = model.decode_head if hasattr(model, 'decode_head') else model.panoptic_head
    with torch.no_grad():
        head.classifier.class_embed.weight.mul_(12)
        head.classifier.mask_embed.layers[-1].weight.mul_(20)
        head.classifier.transformer_decoder.query_embed.weight.mul_(10)
    return model


@contextmanager
def warnings_in_force() -> Iterator[list[str]]:
    """Collect Python's warnings and the messages of mmengine's logger from level WARNING on."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            yield found
        found += [str(one.message) for one in caught]
    finally:
        logger.removeHandler(handler)


def config_in(checkpoint: Path) -> Config:
    """The config that the runner stored in a checkpoint."""
    content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
    return Config.fromstring(content['message_hub']['runtime_info']['cfg'], '.py')


def predict_in_batches(saved: SavedModel, batch_size: int) -> list[dict]:
    """The predictions of mmengine's test loop with another batch size, in the form of `SavedModel.results`."""
    cfg = Config.fromfile(saved.config)
    dump = str(saved.config.with_suffix(f'.{batch_size}.pkl'))
    cfg.merge_from_dict(dict(work_dir=str(saved.config.with_suffix('')), load_from=str(saved.checkpoint)))
    cfg.test_evaluator = [dict(type='DumpResults', out_file_path=dump)]
    cfg.test_dataloader.batch_size = batch_size
    Runner.from_cfg(cfg).test()
    return mmengine.load(dump)


def save_family(folder: Path, base: str, result: str = 'semantic') -> tuple[Path, Path]:
    """Write config and checkpoint of a small model with the classes of a shipped dataset base, without data.

    Args:
        folder: destination.
        base: name of the dataset base, such as 'camvid'.
        result: 'semantic' for MMSegmentation, otherwise an entry of ``test_cfg`` for MMDetection.
    """
    suffixes = ('', '') if result == 'semantic' else ('_panoptic', '_mmdet')
    names = (f'models/maskformer_tiny{suffixes[0]}.py', f'datasets/{base}.py', f'default_runtime{suffixes[1]}.py')
    text = FAMILY.format(bases=[str(ROOT / 'configs/_base_' / name) for name in names])
    if result != 'semantic':
        text += PANOPTIC_FAMILY.format(result=result)
    (folder / 'config.py').write_text(text)
    cfg = Config.fromfile(folder / 'config.py')
    init_default_scope(cfg.default_scope)
    meta = DATASETS.get(cfg.test_dataloader.dataset.type).METAINFO
    weights = dict(state_dict=decided_model(cfg, 0).state_dict(), meta=dict(dataset_meta=meta))
    torch.save(weights, folder / 'weights.pth')
    return folder / 'config.py', folder / 'weights.pth'
