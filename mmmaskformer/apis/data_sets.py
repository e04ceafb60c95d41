"""Data sets on the command line: preparing published ones, and looking at those of a config."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work
from mmmaskformer.datasets.converters.engine import prepare
from mmmaskformer.datasets.converters.recipes import recipe_of
from mmmaskformer.datasets.converters.records import read_record, record_path
from mmmaskformer.datasets.converters.report import report
from mmmaskformer.datasets.inspection import inspect_data

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def prepare_data(
    name: str,
    root: str | Path | None = None,
    source: str | Path | None = None,
    *,
    workers: int | None = None,
    partial_set: bool = False,
    overwrite: bool = False,
) -> str:
    """Prepare a published data set; see `mmmaskformer.datasets.converters.engine.prepare`.

    Args:
        name: of the data set.
        root, source, workers, partial_set, overwrite: see there.

    Returns:
        The report.

    Raises:
        FileNotFoundError, ValueError: see there.
    """
    recipe = recipe_of(name)
    done = prepare(recipe, root, source, workers=workers, partial_set=partial_set, overwrite=overwrite)
    kept = f'{name}: nothing to do, it was prepared before.\n\n' if done.kept else ''
    return kept + report(recipe, done.record, done.root)


def check_prepared(name: str, root: str | Path | None = None) -> str:
    """Compare a prepared data set with its record.

    Args:
        name: of the data set.
        root: where it is; None for the place that the configs expect.

    Returns:
        The report.

    Raises:
        FileNotFoundError: if it was not prepared, or not to the end.
        ValueError: if files are missing, or there is no data set of that name.
    """
    recipe = recipe_of(name)
    folder = Path(root or recipe.root).expanduser().resolve()
    record = read_record(folder, name)
    if record is None:
        raise FileNotFoundError(
            f'{recipe.title}: found no {record_path(folder, name)}, the record of a complete data set. Fix: '
            f'mmmaskformer data prepare {name}, which also ends what was interrupted.'
        )
    record.require_targets(folder)
    return report(recipe, record, folder)


def check_config(config: str | Path, cfg_options: Mapping | None = None) -> list[str]:
    """Build the data sets of a config and look at a sample of their files, as a run does before its first step.

    Args:
        config: mmengine config file.
        cfg_options: entries to replace in it.

    Returns:
        A line for each data set with its number of images, each followed by what was found.

    Raises:
        FileNotFoundError: if the config or files of a data set are missing.
        ValueError: if a data set cannot be used; see the data sets and `inspect_data`.
    """
    if not Path(config).is_file():
        raise FileNotFoundError(f'config: {config} does not exist; expected an mmengine config file')
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(cfg_options or {}))
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    loaders = {key: cfg[key] for key in LOADERS if cfg.get(key) is not None}
    if not loaders:
        raise ValueError(f'{config}: found none of {list(LOADERS)}, expected the config of a training run')
    lines, seen = [], []
    for key, loader in loaders.items():
        if loader.dataset in seen:
            continue
        seen.append(loader.dataset)
        dataset = DATASETS.build(loader.dataset)
        lines.append(f'{key}: {type(dataset).__name__}, {len(dataset):,} images')
        lines += [f'  {"warning: " if found.is_warning else ""}{found.text}' for found in inspect_data(dataset)]
    return lines
