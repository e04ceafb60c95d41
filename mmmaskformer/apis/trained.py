"""Loading of trained models outside a runner: model, weights and facts about the data."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, DictAction
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work
from mmmaskformer.apis.config_files import read_config_file
from mmmaskformer.checkpoints.readers import is_transformers_folder
from mmmaskformer.export.modules import head_of
from mmmaskformer.heads.checkpoint_layouts import require_finite_weights
from mmmaskformer.run_settings import unread_options


class TrainedModel(NamedTuple):
    """A model with what is needed to run it outside a runner.

    Attributes:
        model: model of either host, in evaluation mode, on the CPU.
        facts: ``classes`` (list of K names), ``palette`` (list of K [R, G, B], empty if unknown), ``isthing`` (list of
            K bool), and ``short_edge`` and ``max_size`` of the test pipeline in pixels, None without such a resize.
    """

    model: BaseModel
    facts: dict


def load_trained(config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None) -> TrainedModel:
    """Build the model of a config and load its weights.

    Args:
        config: mmengine config file.
        checkpoint: a file, a folder of transformers, or a URL that mmengine can load; also of another package.
        cfg_options: entries to replace in the config.

    Returns:
        The model and its facts; class names are those with which the checkpoint was trained.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the config has no model of ours, or the weights do not fit it.
    """
    cfg = read_config(config, checkpoint, cfg_options, needs=('model',))
    model, content = build_trained(cfg, str(checkpoint))
    dataset_meta = content.get('meta', {}).get('dataset_meta') or {}
    return TrainedModel(model, _class_facts(head_of(model), dataset_meta) | _resize_facts(cfg))


def read_config(
    config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None, *, needs: tuple[str, ...]
) -> Config:
    """Read the config of a training run and check that a checkpoint exists, before anything is built.

    Args:
        config: mmengine config file.
        checkpoint: a file, a folder of transformers, or a URL that mmengine can load; also of another package.
        cfg_options: entries to replace in the config, such as {'test_dataloader.dataset.data_root': '/data'}.
        needs: keys that the config must have.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the config lacks a key, or an entry of ``cfg_options`` changes nothing.
    """
    cfg = read_config_file(config)
    if '://' not in str(checkpoint) and not Path(checkpoint).exists():
        raise FileNotFoundError(f'checkpoint: {checkpoint} does not exist; expected a .pth file of a training run')
    if Path(checkpoint).is_dir() and not is_transformers_folder(checkpoint):
        raise FileNotFoundError(
            f'checkpoint: {checkpoint} is a folder without config.json, expected one of transformers, or a .pth file '
            'of a training run'
        )
    merge_options(cfg, cfg_options)
    for key in needs:
        if cfg.get(key) is None:
            raise ValueError(f'{config}: found no {key!r}, expected the config of a training run')
    return cfg


def parse_options(pairs: Sequence[str] | None) -> dict:
    """Parse entries KEY=VALUE of a command line as mmengine's scripts do, to {dotted key: value}.

    Raises:
        ValueError: if an entry has no '=', or a bracket is not closed.
    """
    pairs = list(pairs or ())
    for pair in pairs:
        if '=' not in pair:
            raise ValueError(f'--cfg-options: found {pair!r}, expected KEY=VALUE such as randomness.seed=1')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction, default={})
    try:
        return parser.parse_args(['--cfg-options', *pairs] if pairs else []).cfg_options
    except AssertionError as error:  # of mmengine, about brackets
        raise ValueError(f'--cfg-options: found {pairs}: {error}') from error


def merge_options(cfg: Config, cfg_options: Mapping | None) -> None:
    """Replace entries of a config, in place.

    Args:
        cfg: config of a training run.
        cfg_options: the entries by dotted key.

    Raises:
        ValueError: if nothing reads the key of an entry.
    """
    options = dict(cfg_options or {})
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise ValueError(f'--cfg-options: found {list(options)}: {error.args[0]}') from error
    unread = unread_options(cfg, options)
    if unread:
        raise ValueError(unread[0])


def build_trained(cfg: Config, checkpoint: str) -> tuple[BaseModel, dict]:
    """Build the model of a config and load its weights; missing or unexpected weights are an error.

    Args:
        cfg: config of a training run.
        checkpoint: a file, a folder of transformers, or a URL that mmengine can load; also of another package.

    Returns:
        The model in evaluation mode on the CPU, and the content of the checkpoint.

    Raises:
        ValueError: if the weights do not fit the model, or contain inf or NaN.
    """
    model = build_model(cfg)
    try:
        content = load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except RuntimeError as error:
        problem = ' '.join(str(error).split())
        raise ValueError(
            f'checkpoint: {checkpoint} does not fit the model of the config: {problem[:300]} … '
            'Fix: use the config that it was trained with'
        ) from error
    require_finite_weights(model.state_dict(), checkpoint)
    model.eval()
    for part in model.children():
        if hasattr(part, 'require_all_weights'):  # a classifier that was re-initialised does not count as loaded
            part.require_all_weights()
    return model, content


def build_model(cfg: Config) -> BaseModel:
    """Build the model of a config without loading weights.

    Args:
        cfg: config of a training run.

    Raises:
        ValueError: if it cannot be built.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with building('model'):
        model_cfg = cfg.model.copy()
        # As in the runner, a config may define the preprocessor outside the model.
        if cfg.get('data_preprocessor') is not None:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        return MODELS.build(model_cfg)


@contextmanager
def building(key: str) -> Iterator[None]:
    """Report a part of a config that cannot be built, such as one with a misspelt key or type, as a wrong value.

    Args:
        key: key of the part in the config.

    Raises:
        ValueError: in the place of another error of a constructor, with its text.
    """
    try:
        yield
    except (TypeError, KeyError, AttributeError, RuntimeError, AssertionError) as error:
        reason = error.args[0] if error.args and error.args[0] else type(error).__name__
        raise ValueError(f'{key} cannot be built: {reason}') from error


def _class_facts(head: Any, dataset_meta: dict) -> dict:
    """Class names, palette and thing flags of one of our heads in either host."""
    names = list(dataset_meta.get('classes') or ())
    palette = [list(map(int, colour)) for colour in dataset_meta.get('palette') or ()]
    if len(names) != head.num_classes:
        names, palette = [f'class {label}' for label in range(head.num_classes)], []
    things = getattr(head, 'is_thing', torch.zeros(head.num_classes, dtype=torch.bool))
    return dict(classes=names, palette=palette if len(palette) == len(names) else [], isthing=things.tolist())


def _resize_facts(cfg: Config) -> dict:
    """The size to which the test pipeline resizes images."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    for transform in dataset.get('pipeline') or ():
        if str(transform.get('type', '')).endswith('ResizeShortestEdge'):
            return dict(short_edge=transform.get('short_edge'), max_size=transform.get('max_size'))
    return dict(short_edge=None, max_size=None)
