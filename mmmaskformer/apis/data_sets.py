"""Datasets on the command line: preparing published ones and checking those of a config."""

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from mmengine.registry import DATASETS, init_default_scope

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work
from mmmaskformer.apis.config_files import read_config_file
from mmmaskformer.apis.trained import building, merge_options
from mmmaskformer.datasets.converters.engine import prepare, require_complete
from mmmaskformer.datasets.converters.recipes import RECIPES, recipe_of
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
    """Prepare a published dataset; see `mmmaskformer.datasets.converters.engine.prepare`.

    Args:
        name: name of the dataset.
        root, source, workers, partial_set, overwrite: see there.

    Returns:
        The report.

    Raises:
        FileNotFoundError, ValueError: see there.
    """
    recipe = recipe_of(name)
    done = prepare(recipe, root, source, workers=workers, partial_set=partial_set, overwrite=overwrite)
    kept = f'{name}: already prepared, nothing to do.\n\n' if done.kept else ''
    return kept + report(recipe, done.record, done.root)


def check_data(target: str, root: str | Path | None = None, cfg_options: Mapping | None = None) -> str:
    """Check the files of datasets without training.

    Args:
        target: a config file, which ends in '.py'; the name of a prepared dataset; or the folder of prepared ones.
        root: folder of the data, if it is not the default of the config or name; not allowed if ``target`` is a folder.
        cfg_options: entries to replace in the config.

    Returns:
        The report.

    Raises:
        FileNotFoundError, ValueError: see `check_config`, `check_prepared` and `check_folder`.
    """
    if target.endswith('.py'):
        return '\n'.join(check_config(target, cfg_options, root))
    if cfg_options:
        raise ValueError(f'cfg_options: found {dict(cfg_options)}, but {target!r} is not a config; expected none.')
    if target in RECIPES or not Path(target).is_dir():
        return check_prepared(target, root)
    if root is not None:
        raise ValueError(f'root: found {root} with the folder {target!r}, expected one of the two. Fix: omit one.')
    return check_folder(target)


def check_prepared(name: str, root: str | Path | None = None) -> str:
    """Compare a prepared dataset with its record.

    Args:
        name: name of the dataset.
        root: its folder; None for the folder that the configs expect.

    Returns:
        The report.

    Raises:
        FileNotFoundError: if it was not prepared, or not completely.
        ValueError: if files are missing or images were added, or the name is unknown.
    """
    recipe = recipe_of(name)
    folder = Path(root or recipe.root).expanduser().resolve()
    record = read_record(folder, name)
    if record is None:
        raise FileNotFoundError(
            f'{recipe.title}: found no {record_path(folder, name)}, the record of a complete dataset. Fix: '
            f'mmmaskformer data prepare {name}, which also completes an interrupted preparation.'
        )
    require_complete(recipe, record, folder)
    return report(recipe, record, folder)


def check_folder(folder: str | Path) -> str:
    """Compare all datasets that were prepared in a folder with their records.

    Args:
        folder: folder with one or more files ``NAME.prepared.json``.

    Returns:
        Their reports.

    Raises:
        FileNotFoundError: if there is no record.
        ValueError: if files are missing.
    """
    names = [name for name in RECIPES if record_path(Path(folder), name).is_file()]
    if not names:
        raise FileNotFoundError(
            f'{folder}: found no record of a complete dataset, NAME.prepared.json. Expected at least one. Fix: '
            'mmmaskformer data prepare NAME, which also completes an interrupted preparation; or pass the folder that '
            'it created.'
        )
    return '\n\n'.join(check_prepared(name, folder) for name in names)


def check_config(config: str | Path, cfg_options: Mapping | None = None, root: str | Path | None = None) -> list[str]:
    """Build the datasets of a config and check a sample of their files, as a training run does before its first step.

    Args:
        config: mmengine config file.
        cfg_options: entries to replace in it.
        root: replaces the ``data_root`` of all its datasets.

    Returns:
        A line for each dataset with its number of images, followed by the findings.

    Raises:
        FileNotFoundError: if the config or files of a dataset are missing.
        ValueError: if a dataset cannot be used; see the datasets and `inspect_data`.
    """
    cfg = read_config_file(config)
    merge_options(cfg, cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    loaders = {key: cfg[key] for key in LOADERS if cfg.get(key) is not None}
    if not loaders:
        raise ValueError(f'{config}: found none of {list(LOADERS)}, expected the config of a training run')
    lines: list[str] = []
    seen: list[Mapping] = []
    for key, loader in loaders.items():
        if root is not None:
            _set_data_root(loader.dataset, str(root))
        if loader.dataset in seen:
            continue
        seen.append(loader.dataset)
        with building(f'{key}.dataset'):
            dataset = DATASETS.build(loader.dataset)
        lines.append(f'{key}: {type(dataset).__name__}, {len(dataset):,} images')
        lines += [f'  {"warning: " if found.is_warning else ""}{found.text}' for found in inspect_data(dataset)]
    return lines


def _set_data_root(dataset: MutableMapping, root: str) -> None:
    """Set the data root of a dataset, or of those inside a wrapper."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    for each in inner:
        _set_data_root(each, root)
    if not inner:
        dataset['data_root'] = root
