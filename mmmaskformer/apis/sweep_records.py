"""What a sweep keeps in the folder of each run: its settings and results, and what the run's own files say of them."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.visualization.curve import last_validation

RESULT_FILE = 'sweep_result.json'
SETTINGS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'randomness',
)
"""Entries of a config that decide a run's results; its iterations are compared with those of its last validation."""


class Record(NamedTuple):
    """Which settings a folder belongs to.

    Attributes:
        fingerprint: of the whole config.
        options: entries KEY=VALUE that the sweep set.
        metrics: of the last validation; None while the run has not ended.
    """

    fingerprint: str
    options: list[str]
    metrics: dict[str, float] | None


def read_record(folder: Path) -> Record | None:
    """The record of a run; None if there is none.

    Raises:
        ValueError: if the file is no such record.
    """
    file = folder / RESULT_FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        metrics = content['metrics']
        if metrics is not None:
            metrics = {str(key): float(value) for key, value in metrics.items()}
        return Record(str(content['fingerprint']), list(map(str, content['options'])), metrics)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{file}: found no record of a sweep ({error}). Fix: remove this file; the same command then makes it again'
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Write it, whole or not at all; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RESULT_FILE, json.dumps(record._asdict(), indent=1))


def require_same_settings(folder: Path, config: Config) -> None:
    """Compare the config that a run was started with, of which mmengine keeps a copy in its folder, with another one.

    Args:
        folder: of the run, which need not have been started.
        config: that it should have.

    Raises:
        ValueError: naming the first entries that differ.
    """
    copy = folder / Path(config.filename).name
    if not copy.is_file():
        return
    found, expected = Config.fromfile(copy).to_dict(), config.to_dict()
    pairs = [(key, found.get(key), expected.get(key)) for key in SETTINGS]
    changed = [line for key, theirs, ours in pairs for line in _differences(key, _plain(theirs), _plain(ours))]
    if changed:
        more = f' and {len(changed) - 3} more' if len(changed) > 3 else ''
        raise ValueError(
            f'{copy}: found a run with other settings: {"; ".join(changed[:3])}{more}. Fix: give another --work-dir, '
            'or remove that folder to train again'
        )


def results_of(folder: Path, iterations: int | None) -> dict[str, float]:
    """The numbers of a run's last validation.

    Args:
        folder: of the run, which has ended.
        iterations: that the run trains for; None if it counts epochs.

    Raises:
        ValueError: if there is no validation, none at the end of the training, or a log is broken.
    """
    row = last_validation(folder)
    if row is None:
        raise ValueError(f'{folder}: the run has no validation. Fix: set train_cfg.val_interval in --cfg-options')
    if iterations is not None and row.get('step') != iterations:
        raise ValueError(
            f'{folder}: the last validation is of iteration {row.get("step")}, expected one of the last iteration, '
            f'{iterations}. Fix: see the log of the run, or remove that folder to train again'
        )
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float)}


def _plain(value: Any) -> Any:
    """The same as JSON has it: tuples are lists, what it does not know is text."""
    return json.loads(json.dumps(value, default=str))


def _differences(key: str, theirs: Any, ours: Any) -> Iterator[str]:
    """Lines for the entries that differ."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in dict.fromkeys((*theirs, *ours)):
            yield from _differences(f'{key}.{name}', theirs.get(name), ours.get(name))
    elif theirs != ours and not (_is_nan(theirs) and _is_nan(ours)):
        yield f'{key} is {theirs}, expected {ours}'


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
