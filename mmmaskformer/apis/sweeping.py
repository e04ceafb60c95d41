"""Trains the runs of a sweep one after the other and tabulates the results, as the paper's ablations do."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmengine.runner import find_latest_checkpoint

from mmmaskformer.analysis.sweep_table import METRICS, CaseResult, sweep_table
from mmmaskformer.analysis.tables import Cell, write_tables
from mmmaskformer.apis.analysis.inference import compare_inference
from mmmaskformer.apis.sweep_plan import Run, arguments_of
from mmmaskformer.apis.trained import parse_options
from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.visualization.analysis_plots import plot_sweep
from mmmaskformer.visualization.curve import read_scalars

RESULT_FILE = 'sweep_result.json'


class Sweep(NamedTuple):
    """What a sweep has found.

    Attributes:
        header: of the table.
        rows: one per case.
        files: written.
        failed: folders of runs that ended with an error.
    """

    header: list[str]
    rows: list[list[Cell]]
    files: list[Path]
    failed: list[Path]


Trainer = Callable[[list[str]], int]


def train(arguments: list[str]) -> int:
    """Train in a process of its own with the host's script; arguments as of ``mmmaskformer train``; exit status."""
    return subprocess.run([sys.executable, '-m', 'mmmaskformer', 'train', *arguments]).returncode


def finished(run: Run) -> dict[str, float] | None:
    """Results of a run that has ended; None if it has not.

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
    runs: Sequence[Run],
    out: str | Path,
    metrics: Sequence[str] | None = None,
    setting: str = 'case',
    inference: bool = False,
    trainer: Trainer | None = None,
    say: Callable[[str], None] | None = None,
) -> Sweep:
    """Train what is not finished, and write the table after each run.

    A run that ends with an error does not stop the others.

    Args:
        runs: of `mmmaskformer.apis.sweep_plan.plan`.
        out: folder to write sweep.md, sweep.csv and sweep.png into.
        metrics: columns; None for the usual ones, see `metric_columns`.
        setting: what is changed, the head of the first column.
        inference: also measure every way of inference of each trained model on the test set of its config; gives
            metrics such as 'general/PQ_St', and the tables of `compare_inference` in the folder of the run.
        trainer: trains with these arguments of ``mmmaskformer train`` and gives the exit status; `train` if None.
        say: takes a line of progress; None prints it at once.

    Raises:
        ValueError: if a folder has the results of other settings, or a run has no validation.
    """
    trainer = trainer or train
    say = say or partial(print, flush=True)  # before the output of the run
    results = {run.folder: finished(run) for run in runs}  # all folders are checked before the first training
    failed: list[Path] = []
    write = partial(_write, runs, results, failed, Path(out), metrics, setting, inference)
    for number, run in enumerate(runs, start=1):
        label = f'{number} of {len(runs)}: {run.folder}'
        found = results[run.folder]
        if found is not None and not (inference and _lacks_inference(found)):
            say(f'{label}: finished before')
            continue
        if found is None:
            say(f'{label}: training')
            _mark(run, None)
            if trainer(arguments_of(run)):
                failed.append(run.folder)
                say(f'{label}: failed; the same command tries again')
                continue
            found = results[run.folder] = _record(run)
        if inference:
            say(f'{label}: ways of inference on the test set')
            found.update(_ways_of_inference(run))
            _mark(run, found)
        write()
    return write()


def _record(run: Run) -> dict[str, float]:
    """Read the last validation of a run that has ended, and mark it as finished."""
    rows = read_scalars(run.folder).val
    if not rows:
        raise ValueError(f'{run.folder}: the run has no validation. Fix: set train_cfg.val_interval in --cfg-options')
    metrics = {key: float(value) for key, value in rows[-1].items() if isinstance(value, int | float)}
    _mark(run, metrics)
    return metrics


def _lacks_inference(metrics: dict[str, float]) -> bool:
    return 'semantic/mIoU' not in metrics  # every model has that way


def _ways_of_inference(run: Run) -> dict[str, float]:
    """Metrics of the last checkpoint on the test set, as WAY/METRIC; those that do not apply are left out."""
    checkpoint = find_latest_checkpoint(str(run.folder))
    if checkpoint is None:
        raise ValueError(f'{run.folder}: the run has no checkpoint. Fix: set default_hooks.checkpoint.save_last=True')
    _, rows, _ = compare_inference(run.case.config, checkpoint, run.folder, cfg_options=parse_options(run.options))
    return {
        f'{way}/{name}': float(value)
        for way, *values, _ in rows
        for name, value in zip(METRICS, values, strict=True)
        if isinstance(value, float) and not math.isnan(value)
    }


def _mark(run: Run, metrics: dict[str, float] | None) -> None:
    """Write which settings a folder belongs to, and the results of the run or None while it has not ended."""
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
    inference: bool,
) -> Sweep:
    cases = []
    for case in dict.fromkeys(run.case for run in runs):
        of_case = [run for run in runs if run.case == case]
        ended = [result for run in of_case if (result := results[run.folder]) is not None]
        broken = sum(run.folder in failed for run in of_case)
        cases.append(CaseResult(case.name, of_case[0].parameters, ended, len(of_case), broken))
    table = sweep_table(cases, setting, metrics)
    configs = dict.fromkeys(Path(run.case.config).stem for run in runs)
    title = f'{", ".join(configs)}: last validation of each run'
    if inference:
        title += '; semantic/… and other ways of inference: its last checkpoint on the test set'
    files = write_tables(out / 'sweep', table.header, table.rows, title)
    if table.curves:
        files.append(out / 'sweep.png')
        plot_sweep([case.name for case in cases], table.curves, setting, files[-1])
    return Sweep(table.header, table.rows, files, list(failed))
