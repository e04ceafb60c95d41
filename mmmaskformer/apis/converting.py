"""Convert a checkpoint of any package to one of any other, completely or not at all."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work
from mmmaskformer import __version__
from mmmaskformer.apis.class_orders import order_classes
from mmmaskformer.apis.config_files import read_config_file
from mmmaskformer.apis.model_configs import NoConfigError, host_config, own_config, with_published_size
from mmmaskformer.apis.sources import Source, read_source
from mmmaskformer.apis.trained import build_model
from mmmaskformer.apis.verifying import Difference, compare_outputs, compare_weights
from mmmaskformer.apis.zoo_downloads import original_file
from mmmaskformer.checkpoints.convert import Conversion, convert
from mmmaskformer.checkpoints.key_maps import NAMES
from mmmaskformer.checkpoints.neutral import ConversionError, read_neutral
from mmmaskformer.checkpoints.preprocessors import hub_preprocessor
from mmmaskformer.checkpoints.readers import is_transformers_folder
from mmmaskformer.checkpoints.settings import Settings, require_published_settings
from mmmaskformer.checkpoints.sizes import Head
from mmmaskformer.checkpoints.source_facts import guess_task, known_settings, settings_of
from mmmaskformer.checkpoints.transformers_files import hub_config
from mmmaskformer.checkpoints.writers import (
    ENDINGS,
    require_writable,
    write_checkpoint,
    write_official,
    write_transformers,
)
from mmmaskformer.checkpoints.zoo import find_model, is_name
from mmmaskformer.heads.source_settings import differing_settings, require_same_settings

TARGETS = tuple(ENDINGS)
TASKS = ('semantic', 'panoptic')
LICENCES = {'official': 'CC BY-NC 4.0'}
"""Licence of the published weights of a package."""

UNKNOWN_LICENCE = 'that of the source, which the file does not name'


class Report(NamedTuple):
    """The result of a conversion.

    Attributes:
        source: the checkpoint that was read.
        conversion: conversion of its weights.
        out: file or folder written.
        settings: the settings used that the weights do not determine.
        notes: sentences about assumptions and changes.
        differences: differences of the outputs of both models, or of their weights; empty if not requested.
        is_read_back: whether the result was read back from disk, with bitwise equal weights.
    """

    source: Source
    conversion: Conversion
    out: Path
    settings: Settings
    notes: list[str]
    differences: list[Difference]
    is_read_back: bool = False

    def lines(self) -> list[str]:
        """The report for the user, one line per item."""
        title = NAMES[self.source.package].title
        found = [f'{self.source.path}: {title}, {self.conversion.architecture.describe()}']
        used = len(self.source.weights) - sum(name in self.source.weights for name in self.conversion.dropped)
        found.append(f'{used} of its {len(self.source.weights)} weights are used')
        for verb, reasons in (('dropped', self.conversion.dropped), ('computed', self.conversion.made)):
            for reason, count in Counter(reasons.values()).items():
                example = next(name for name, other in reasons.items() if other == reason)
                found.append(f'{count} {verb}: {reason} ({example}{", …" if count > 1 else ""})')
        found += [f'left out: {name}, a {what}' for name, what in self.source.rest.items()]
        found += self.notes
        found += [difference.describe() for difference in self.differences]
        verified = ', read back and compared bit for bit' if self.is_read_back else ''
        return [*found, f'{self.out}: {len(self.conversion.weights)} weights written{verified}']


def convert_checkpoint(
    source: str | Path,
    out: str | Path,
    to: str,
    *,
    config: str | Path | None = None,
    classes: str | None = None,
    task: str | None = None,
    averaged: bool = False,
    num_heads: int | None = None,
    licence: str | None = None,
    verify: bool = False,
    force: bool = False,
) -> Report:
    """Convert a checkpoint and write it.

    Args:
        source: file, folder of transformers, or ``zoo://NAME``; its package is recognised by the names of its weights.
        out: file, or folder for transformers.
        to: package of the result, one of `TARGETS`.
        config: config of the model of this package for which the result is meant; None generates one.
        classes: class list of the result, the name of one of ours or a JSON file; the classes of the source are
            reordered if needed. None keeps the class list of the source.
        task: 'semantic' or 'panoptic', which determines the host of a checkpoint of this package.
        averaged: use the averaged weights that the file also contains.
        num_heads: attention heads, which the weights do not determine; taken from the source if it stores them, else 8,
            as published.
        licence: licence of the weights, if the file does not state it; stored with them.
        verify: compare the outputs of both models on an image if their packages are installed, else the weights.
        force: replace an existing output.

    Raises:
        ValueError: if the source is damaged, of another architecture or incomplete, or the target cannot represent it.
        FileExistsError: if the output exists.
        OSError: if it cannot be read or written.
    """
    out = Path(out)
    _require_choice('--to', to, TARGETS)
    if task is not None:
        _require_choice('--task', task, TASKS)
    require_writable(out, to, force)
    if is_name(source):
        licence = licence or find_model(str(source)).licence
        source = original_file(str(source))
    source = Path(source)
    if out.exists() and out.resolve() == source.resolve():
        raise FileExistsError(f'{out} is the input, and is not replaced. Fix: choose another name')
    read = read_source(source, averaged)
    if licence is not None:
        read = read._replace(meta={'licence': licence, **read.meta})
    try:
        done = _convert(read, to, config, classes, task, num_heads)
    except ValueError as error:
        raise ValueError(f'{source}: it is {NAMES[read.package].title}, and cannot be converted: {error}') from None
    differences = _compared(read, done) if verify else []
    _write(out, to, read, done)
    if verify:
        _require_written(out, done.conversion)
    return Report(read, done.conversion, out, done.settings, done.notes, differences, verify)


class _Converted(NamedTuple):
    """A checkpoint in memory: its package, its weights, the rest, and notes on assumptions."""

    target: str
    conversion: Conversion
    settings: Settings
    order: list[int] | None
    cfg: Config | None
    notes: list[str]


def _convert(
    read: Source, to: str, config: str | Path | None, classes: str | None, task: str | None, num_heads: int | None
) -> _Converted:
    """Convert a source; see `convert_checkpoint`.

    Raises:
        ValueError: if the target cannot represent it.
    """
    task = task or guess_task(read.package, read.meta, read.weights)
    settings, notes = settings_of(read.meta, read.package, read.weights, num_heads)
    target = 'mmmaskformer-panoptic' if to == 'mmmaskformer' and task == 'panoptic' else to
    neutral = read_neutral(read.weights, read.package)
    if not any(name.startswith('backbone.') for name in neutral.weights):
        raise ConversionError('it has no backbone. Fix: use the checkpoint of a whole model')
    _require_heads(settings.num_heads, neutral.architecture.head)
    settings, order, more = order_classes(settings, neutral.architecture.head.num_classes, read.package, to, classes)
    conversion = convert(
        read.weights, read.package, target, permutation=order, no_object_weight=settings.no_object_weight
    )
    if to == 'official':
        stem = getattr(conversion.architecture.backbone, 'stem', ())
        dilations = (1, 2, 4) if len(stem) > 1 else (1, 1, 1)
        require_published_settings(settings, 'the published code', dilations)
    known = known_settings(read.meta, read.package) | ({} if num_heads is None else {'num_heads': num_heads})
    if config is None and to != 'official':  # which cannot store it
        settings, size_notes = with_published_size(settings, known, task)
        more += size_notes
    if to == 'transformers':
        hub_config(conversion.architecture, settings)  # raises an error if the library cannot represent the model
    cfg = _config_of(config, to, conversion, settings, task, notes, known)
    return _Converted(target, conversion, settings, order, cfg, notes + more)


def _require_heads(num_heads: int, head: Head) -> None:
    if not isinstance(num_heads, int) or num_heads < 1 or head.channels % num_heads:
        raise ConversionError(
            f'found {num_heads!r} attention heads for {head.channels} channels, expected a number that divides them. '
            'Fix: set --num-heads'
        )


def _compared(read: Source, done: _Converted) -> list[Difference]:
    """Compare the converted weights with the source.

    Raises:
        ValueError: if they differ by more than rounding.
    """
    folder = read.path if is_transformers_folder(read.path) else None
    pair = ((read.package, read.weights), (done.target, done.conversion.weights))
    differences = compare_outputs(
        *pair, done.conversion.architecture, done.settings, done.order, folder, done.conversion.dropped
    )
    differences = differences or compare_weights(pair[0], done.conversion, done.target, done.order)
    if not all(difference.is_rounding for difference in differences):
        raise ValueError(
            f'{read.path}: {"; ".join(difference.describe() for difference in differences)}. That is more than '
            'rounding: nothing is written. Fix: set the options that no weight determines, such as --num-heads'
        )
    return differences


def _write(out: Path, to: str, read: Source, done: _Converted) -> None:
    """Write the result in the form of its package."""
    weights = done.conversion.weights
    if to == 'transformers':
        config = hub_config(done.conversion.architecture, done.settings)
        write_transformers(out, weights, config, hub_preprocessor(done.settings))
    elif to == 'official':
        write_official(out, weights)
    else:
        write_checkpoint(out, weights, _more_of(read, done))


def _require_written(out: Path, conversion: Conversion) -> None:
    """Read a result back from disk and compare every weight bitwise.

    Raises:
        OSError: if the file has other contents.
    """
    found = read_source(out).weights
    numpy = out.suffix == '.pkl'  # which has no bfloat16
    wrong = [
        name
        for name, value in conversion.weights.items()
        if name not in found
        or not torch.equal(found[name], value.float() if numpy and value.dtype == torch.bfloat16 else value)
    ]
    if wrong or found.keys() != conversion.weights.keys():
        raise OSError(
            f'{out}: read back, {len(wrong)} of its {len(conversion.weights)} weights are not those that were written '
            f'({", ".join(wrong[:3])}). Fix: check the disk and convert again with --force'
        )


def _require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'{key}: found {value!r}, expected one of {", ".join(choices)}')


def _config_of(
    config: str | Path | None,
    to: str,
    conversion: Conversion,
    settings: Settings,
    task: str,
    notes: list[str],
    known: Mapping,
) -> Config | None:
    """Config of the result: the user's, checked against the weights, or a generated one; None if there is none."""
    if config is not None:
        return _checked_config(config, conversion, known, notes)
    if to not in ('mmmaskformer', 'mmseg', 'mmdet'):
        return None
    try:
        if to == 'mmmaskformer':
            return own_config(conversion.architecture, settings, task)
        return host_config(to, conversion.architecture, settings)
    except NoConfigError as error:
        notes.append(f'the result holds no config: {error}')
        return None


def _checked_config(config: str | Path, conversion: Conversion, known: Mapping, notes: list[str]) -> Config:
    """The user's config, whose model must have the names and shapes of the result."""
    cfg = read_config_file(config)
    model = build_model(cfg)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in conversion.weights.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise ConversionError(
            f'{len(wrong)} weights do not match the model of {config}: {name} is {found.get(name, "absent")}, expected '
            f'{wanted.get(name, "no such weight")}; the checkpoint is {conversion.architecture.describe()}. Fix: '
            'use the config of that model'
        )
    head: Any = getattr(model, 'decode_head', None) or getattr(model, 'panoptic_head', None)
    if hasattr(head, 'classifier'):  # a host's head has different modules
        require_same_settings(head, known)
    notes += differing_settings(model, known)
    return cfg


def _more_of(source: Source, done: _Converted) -> dict[str, Any]:
    """The content of a checkpoint besides the weights: plain values, which a safetensors header can store."""
    licence = source.meta.get('licence') or LICENCES.get(source.package, UNKNOWN_LICENCE)
    meta: dict[str, Any] = {
        'licence': licence,
        'source': {
            'package': source.package,
            'file': source.path.name,
            'sha256': source.sha256,
            'model': done.conversion.architecture.describe(),
        },
        'mmmaskformer_version': __version__,
        'no_object_weight': done.settings.no_object_weight,
        'num_heads': done.settings.num_heads,
    }
    if done.settings.classes:
        meta['dataset_meta'] = {'classes': list(done.settings.classes), **done.settings.dataset_meta}
    if done.order is not None:
        meta['label_in_source'] = done.order
    if done.cfg is not None:
        meta['cfg'] = done.cfg.pretty_text
    return {'meta': meta}
