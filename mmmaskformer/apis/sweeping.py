"""Trains a config once for each value of a setting and tabulates the results, as the paper's ablations do."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mmmaskformer.analysis.sweep_table import CaseResult, sweep_table
from mmmaskformer.analysis.tables import Cell, write_tables
from mmmaskformer.apis.model_size import build_on_meta
from mmmaskformer.apis.trained import parse_options
from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.visualization.analysis_plots import plot_sweep
from mmmaskformer.visualization.curve import read_scalars

SHORT_NAMES = {
    'queries': 'model.{head}.num_queries',
    'layers': 'model.{head}.transformer_decoder.num_layers',
    'self-attention': 'model.{head}.transformer_decoder.self_attention',
    'deep-supervision': 'model.{head}.deep_supervision',
    'seed': 'randomness.seed',
}
"""Names of settings of the paper's ablations; {head} is the head of the config's host."""
RESULT_FILE = 'sweep_result.json'


class Case(NamedTuple):
    """A row of the table: the config with some entries changed.

    Attributes:
        name: name of the row.
        options: config entries KEY=VALUE that it sets.
    """

    name: str
    options: tuple[str, ...]


class Run(NamedTuple):
    """A training run of a sweep.

    Attributes:
        case: its row.
        seed: seed of the run; None for the one of the config.
        folder: its work dir.
        options: all config entries KEY=VALUE.
        fingerprint: hash of the whole config, which shows whether a finished run still matches it.
        parameters: number of parameters of the model.
    """

    case: Case
    seed: int | None
    folder: Path
    options: tuple[str, ...]
    fingerprint: str
    parameters: int


class Sweep(NamedTuple):
    """The result of a sweep.

    Attributes:
        header: header of the table.
        rows: one per case.
        files: the files written.
        failed: work dirs of runs that ended with an error.
    """

    header: list[str]
    rows: list[list[Cell]]
    files: list[Path]
    failed: list[Path]


Trainer = Callable[[list[str]], int]


def train(arguments: list[str]) -> int:
    """Run ``mmmaskformer train`` with these arguments in a separate process; return its exit status."""
    return subprocess.run([sys.executable, '-m', 'mmmaskformer', 'train', *arguments]).returncode


def cases_of(key: str | None, values: Sequence[str], named: Sequence[Sequence[str]] = ()) -> list[Case]:
    """Build the rows of the table.

    Args:
        key: config key, or one of `SHORT_NAMES`; None if there are only named cases.
        values: values of the key.
        named: cases that change several entries: a name, then KEY=VALUE for each entry. A name alone stands for the
            unchanged config.

    Raises:
        ValueError: if there is no case, two cases have the same name, or only one of key and values is given.
    """
    if (key is None) != (not values):
        raise ValueError(f'found --key {key} and --values {list(values)}, expected both or neither')
    cases = [Case(value, (f'{key}={value}',)) for value in values]
    cases += [Case(name, tuple(options)) for name, *options in named]
    names = [case.name for case in cases]
    if not cases or len(set(names)) < len(names) or len(set(map(_folder_name, names))) < len(names):
        raise ValueError(f'cases: found {names}, expected one or more with different names. Fix: --values or --case')
    return cases


def plan(
    config: str | Path,
    cases: Sequence[Case],
    work_dir: str | Path,
    seeds: Sequence[int] = (),
    common: Sequence[str] = (),
) -> list[Run]:
    """Read the config of every run and build its model on the meta device, so that a wrong value is refused at once.

    Args:
        config: mmengine config file of a training run.
        cases: the rows.
        work_dir: folder of the sweep.
        seeds: one run of each case per seed; without seeds, one run with the seed of the config.
        common: config entries KEY=VALUE of all runs.

    Raises:
        FileNotFoundError: if the config does not exist.
        ValueError: if the model of a case cannot be built.
    """
    if not Path(config).is_file():
        raise FileNotFoundError(f'config: {config} does not exist; expected an mmengine config file')
    no_seed: list[int | None] = [None]
    runs = []
    for case in cases:
        for seed in list(seeds) or no_seed:
            name = _folder_name(case.name) + ('' if seed is None else f'-seed{seed}')
            runs.append(_planned(str(config), case, seed, Path(work_dir) / name, common))
    return runs


def _planned(config: str, case: Case, seed: int | None, folder: Path, common: Sequence[str]) -> Run:
    cfg = Config.fromfile(config)
    head = 'panoptic_head' if 'panoptic_head' in cfg.model else 'decode_head'
    seed_option = [] if seed is None else [f'randomness.seed={seed}']
    options = [_long(option, head) for option in (*common, *case.options, *seed_option)]
    cfg.merge_from_dict(parse_options(options))
    try:
        parameters = sum(parameter.numel() for parameter in build_on_meta(cfg).parameters())
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise ValueError(f'case {case.name!r}: the model cannot be built: {error}') from error
    content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    return Run(case, seed, folder, tuple(options), fingerprint, parameters)


def _long(option: str, head: str) -> str:
    key, _, value = option.partition('=')
    return f'{SHORT_NAMES[key].format(head=head)}={value}' if key in SHORT_NAMES else option


def _folder_name(name: str) -> str:
    return ''.join(letter if letter.isalnum() or letter in '.-_' else '_' for letter in name)


def arguments_of(config: str | Path, run: Run) -> list[str]:
    """Arguments of ``mmmaskformer train`` for a run; an interrupted run is resumed."""
    arguments = [str(config), '--work-dir', str(run.folder), '--resume']
    return arguments + (['--cfg-options', *run.options] if run.options else [])


def finished(run: Run) -> dict[str, float] | None:
    """Results of a finished run; None for an unfinished one.

    Raises:
        ValueError: if the folder has a run with other settings, finished or not.
    """
    file = run.folder / RESULT_FILE
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding='utf-8'))
    if content['fingerprint'] != run.fingerprint:
        raise ValueError(
            f'{file}: found a run with other settings ({" ".join(content["options"])}), or of another '
            'version of the config. Fix: give another --work-dir, or remove that folder to train again'
        )
    return content['metrics']


def run_sweep(
    config: str | Path,
    runs: Sequence[Run],
    out: str | Path,
    metrics: Sequence[str] | None = None,
    setting: str = 'case',
    trainer: Trainer | None = None,
    say: Callable[[str], None] | None = None,
) -> Sweep:
    """Train the unfinished runs, and write the table after each run.

    A run that ends with an error does not stop the others.

    Args:
        config: mmengine config file.
        runs: the runs, from `plan`.
        out: folder for sweep.md, sweep.csv and sweep.png.
        metrics: metrics to show; None for the default, see `metric_columns`.
        setting: name of the swept setting, the title of the first column.
        trainer: function like `train`, the default.
        say: called with each line of progress; None prints it.

    Raises:
        ValueError: if a folder has the results of other settings, or a run has no validation.
    """
    trainer = trainer or train
    say = say or partial(print, flush=True)  # flushed so that it appears before the output of the run
    results = {run.folder: finished(run) for run in runs}  # all folders are checked before the first training
    failed: list[Path] = []
    for number, run in enumerate(runs, start=1):
        label = f'{number} of {len(runs)}: {run.folder}'
        if results[run.folder] is not None:
            say(f'{label}: already finished')
            continue
        say(f'{label}: training')
        _mark(run, None)
        if trainer(arguments_of(config, run)):
            failed.append(run.folder)
            say(f'{label}: failed; the same command tries again')
            continue
        results[run.folder] = _record(run)
        _write(runs, results, failed, Path(out), metrics, setting, str(config))
    return _write(runs, results, failed, Path(out), metrics, setting, str(config))


def _record(run: Run) -> dict[str, float]:
    """Read the last validation of a completed run, and mark the run as finished."""
    rows = read_scalars(run.folder).val
    if not rows:
        raise ValueError(f'{run.folder}: the run has no validation. Fix: set train_cfg.val_interval in --cfg-options')
    metrics = {key: float(value) for key, value in rows[-1].items() if isinstance(value, int | float)}
    _mark(run, metrics)
    return metrics


def _mark(run: Run, metrics: dict[str, float] | None) -> None:
    """Record the settings of the run in its folder, with its results or None while it is unfinished."""
    run.folder.mkdir(parents=True, exist_ok=True)
    content = dict(fingerprint=run.fingerprint, options=run.options, metrics=metrics)
    write_whole(run.folder / RESULT_FILE, json.dumps(content, indent=1))


def _write(
    runs: Sequence[Run],
    results: dict[Path, dict[str, float] | None],
    failed: Sequence[Path],
    out: Path,
    metrics: Sequence[str] | None,
    setting: str,
    config: str,
) -> Sweep:
    cases = []
    for case in dict.fromkeys(run.case for run in runs):
        of_case = [run for run in runs if run.case == case]
        ended = [result for run in of_case if (result := results[run.folder]) is not None]
        broken = sum(run.folder in failed for run in of_case)
        cases.append(CaseResult(case.name, of_case[0].parameters, ended, len(of_case), broken))
    table = sweep_table(cases, setting, metrics)
    files = write_tables(out / 'sweep', table.header, table.rows, f'{Path(config).stem}: last validation of each run')
    if table.curves:
        files.append(out / 'sweep.png')
        plot_sweep([case.name for case in cases], table.curves, setting, files[-1])
    return Sweep(table.header, table.rows, files, list(failed))
