"""Records of the runs of a sweep: settings and results, compared with the files of the run."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmmaskformer.formats.messages import some
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
"""Config entries that determine the results of a run; iterations are compared with those of its last validation."""


class Record(NamedTuple):
    """The settings and results of a run.

    Attributes:
        fingerprint: hash of the complete config.
        options: config entries KEY=VALUE set by the sweep.
        metrics: metrics of the last validation; None while the run is unfinished.
    """

    fingerprint: str
    options: list[str]
    metrics: dict[str, float] | None


def read_record(folder: Path) -> Record | None:
    """The record of a run; None if there is none.

    Raises:
        ValueError: if the file is not a record.
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
            f'{file}: found no record of a sweep ({error}). Fix: remove this file; the same command writes a new one'
        ) from error


def write_record(folder: Path, record: Record) -> None:
    """Write a record, completely or not at all; creates the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RESULT_FILE, json.dumps(record._asdict(), indent=1))


def require_same_settings(folder: Path, config: Config) -> None:
    """Compare a config with that of an earlier run, of which mmengine stores a copy in the folder of the run.

    Args:
        folder: folder of the run; it may not exist yet.
        config: the expected config.

    Raises:
        ValueError: if entries differ; the message names the first ones.
    """
    copy = folder / Path(config.filename).name
    if not copy.is_file():
        return
    found, expected = Config.fromfile(copy).to_dict(), config.to_dict()
    pairs = [(key, found.get(key), expected.get(key)) for key in SETTINGS]
    changed = [line for key, theirs, ours in pairs for line in _differences(key, _plain(theirs), _plain(ours))]
    if changed:
        raise ValueError(
            f'{copy}: found a run with other settings: {some(changed, separator="; ")}. Fix: use another --work-dir, '
            'or remove that folder to train again'
        )


def results_of(folder: Path, iterations: int | None) -> dict[str, float]:
    """The metrics of a run's last validation.

    Args:
        folder: folder of a finished run.
        iterations: iterations of the run; None if it trains by epoch.

    Raises:
        ValueError: if there is no validation at the end of the training, or a log is damaged.
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
    """A value as JSON stores it: tuples become lists, unsupported types become text."""
    return json.loads(json.dumps(value, default=str))


def _differences(key: str, theirs: Any, ours: Any) -> Iterator[str]:
    """A line for each entry that differs."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in dict.fromkeys((*theirs, *ours)):
            yield from _differences(f'{key}.{name}', theirs.get(name), ours.get(name))
    elif theirs != ours and not (_is_nan(theirs) and _is_nan(ours)):
        yield f'{key} is {theirs}, expected {ours}'


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
