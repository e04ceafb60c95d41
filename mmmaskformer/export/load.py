"""A trained model and what its file should know, from config and checkpoint; data are not needed."""

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config

from mmmaskformer.apis.trained import build_trained
from mmmaskformer.export.modules import head_of


class TrainedModel(NamedTuple):
    """A model with the facts that whoever runs it needs.

    Attributes:
        model: of either host, in evaluation mode, on the CPU.
        facts: ``classes`` (list of K names), ``palette`` (list of K [R, G, B], empty if unknown), ``isthing`` (list of
            K bool), and ``short_edge`` and ``max_size`` of the test pipeline in pixels, None if it does not resize so.
    """

    model: torch.nn.Module
    facts: dict


def load_trained(config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None) -> TrainedModel:
    """Build the model of a config and load its weights.

    Args:
        config: mmengine config file.
        checkpoint: a file, or an address that mmengine can load.
        cfg_options: entries to replace in the config.

    Returns:
        The model and its facts; class names are those that the checkpoint was trained with.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the config has no model of ours, or the weights do not fit it.
    """
    if not Path(config).is_file():
        raise FileNotFoundError(f'config: {config} does not exist; expected an mmengine config file')
    if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
        raise FileNotFoundError(f'checkpoint: {checkpoint} does not exist; expected a .pth file of a training run')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(cfg_options or {})
    if cfg.get('model') is None:
        raise ValueError(f"{config}: found no 'model', expected the config of a training run")
    model, content = build_trained(cfg, str(checkpoint))
    head = head_of(model)
    dataset_meta = content.get('meta', {}).get('dataset_meta') or {}
    return TrainedModel(model, _class_facts(head, dataset_meta) | _resize_facts(cfg))


def _class_facts(head: torch.nn.Module, dataset_meta: dict) -> dict:
    names = list(dataset_meta.get('classes') or ())
    palette = [list(map(int, colour)) for colour in dataset_meta.get('palette') or ()]
    if len(names) != head.num_classes:
        names, palette = [f'class {label}' for label in range(head.num_classes)], []
    things = getattr(head, 'is_thing', torch.zeros(head.num_classes, dtype=torch.bool))
    return dict(classes=names, palette=palette if len(palette) == len(names) else [], isthing=things.tolist())


def _resize_facts(cfg: Config) -> dict:
    """To which size the pictures were brought when the model was tested."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    for transform in dataset.get('pipeline') or ():
        if str(transform.get('type', '')).endswith('ResizeShortestEdge'):
            return dict(short_edge=transform.get('short_edge'), max_size=transform.get('max_size'))
    return dict(short_edge=None, max_size=None)
