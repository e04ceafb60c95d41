"""Trains a config once for each value of a setting and tabulates the results, as the paper's ablations do."""

import csv
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mmengine.runner import find_latest_checkpoint

from mmmaskformer.analysis.sweep_table import METRICS, CaseResult, SweepTable, sweep_table
from mmmaskformer.analysis.tables import Cell, write_tables
from mmmaskformer.apis.analysis.inference import compare_inference
from mmmaskformer.apis.sweep_plan import FILES, Run
from mmmaskformer.apis.sweep_records import (
    RESULT_FILE,
    Record,
    read_record,
    require_same_settings,
    results_of,
    write_record,
)
from mmmaskformer.apis.trained import parse_options
from mmmaskformer.formats.folder_lock import folder_lock
from mmmaskformer.formats.whole_files import require_writable
from mmmaskformer.visualization.analysis_plots import plot_sweep


class Sweep(NamedTuple):
    """The result of a sweep.

    Attributes:
        header: header of the table.
        rows: one per case.
        files: the files written.
        failed: work dirs of runs that ended with an error or have no result, and the reason.
    """

    header: list[str]
    rows: list[list[Cell]]
    files: list[Path]
    failed: dict[Path, str]


Trainer = Callable[[list[str]], int]
MEASURED = 'semantic/mIoU'
"""A metric that only the measurement of the inference modes returns; every model has it."""


def train(arguments: list[str]) -> int:
    """Run ``mmmaskformer train`` with these arguments in a separate process; return its exit status."""
    # the child inherits the lock of the folder, in case this process is killed
    return subprocess.run([sys.executable, '-m', 'mmmaskformer', 'train', *arguments], close_fds=False).returncode


def arguments_of(config: str | Path, run: Run) -> list[str]:
    """Arguments of ``mmmaskformer train`` for a run; an interrupted run is resumed."""
    arguments = [run.case.config or str(config), '--work-dir', str(run.folder), '--resume']
    return arguments + (['--cfg-options', *run.options] if run.options else [])


def finished(run: Run) -> dict[str, float] | None:
    """Results of a finished run; None for an unfinished one.

    Raises:
        ValueError: if the folder has a run with other settings, finished or not.
    """
    record = read_record(run.folder)
    if record is None:
        require_same_settings(run.folder, run.config)
        return None
    if record.fingerprint != run.fingerprint:
        raise ValueError(
            f'{run.folder / RESULT_FILE}: found a run with other settings ({" ".join(record.options)}), or of another '
            'version of the config. Fix: use another --work-dir, or remove that folder to train again'
        )
    return record.metrics


def run_sweep(
    config: str | Path,
    runs: Sequence[Run],
    out: str | Path,
    metrics: Sequence[str] | None = None,
    setting: str = 'case',
    trainer: Trainer | None = None,
    say: Callable[[str], None] | None = None,
    inference: bool = False,
) -> Sweep:
    """Train the unfinished runs, and write the table after each run.

    A run that ends with an error, or has no validation at its end, does not stop the others.

    Args:
        config: mmengine config file of the cases that name no other.
        runs: the runs, from `plan`; one or more.
        out: folder for sweep.md, sweep.csv and sweep.png.
        metrics: metrics to show; None for the default, see `metric_columns`.
        setting: name of the swept setting, the title of the first column.
        trainer: function like `train`, the default.
        say: called with each line of progress; None prints it.
        inference: whether to measure each trained model on the test set as well, in every inference mode: metrics such
            as 'general/PQ_St', and the tables of `compare_inference` in the folder of the run.

    Raises:
        ValueError: if a folder has the results of other settings or, after the last run, if a metric is unknown.
        BlockingIOError: if another sweep is using the folder of the runs.
    """
    say = say or partial(print, flush=True)  # flushed so that it appears before the output of the run
    with folder_lock(runs[0].folder.parent, 'sweep'):
        table = _Table(runs, Path(out), metrics, setting, _title(config, runs, inference))
        table.report_another(say)
        for number, run in enumerate(runs, start=1):
            label = f'{number} of {len(runs)}: {run.folder}'
            found, reason = table.results[run.folder], None
            if found is not None and (not inference or MEASURED in found):
                say(f'{label}: already finished')
                continue
            if found is None:
                say(f'{label}: training')
                reason = _train(run, str(config), trainer or train, table)
            if inference and reason is None:
                say(f'{label}: inference modes on the test set')
                reason = _measure(run, str(config), table)
            if reason is not None:
                say(f'{label}: failed: {reason}; the same command tries again')
            table.write(strict=False)
        return table.write(strict=True)


def _train(run: Run, config: str, trainer: Trainer, table: '_Table') -> str | None:
    """Train a run and store its results; returns the reason if there are none, else None."""
    record = Record(run.fingerprint, list(run.options), None)
    write_record(run.folder, record)
    status = trainer(arguments_of(config, run))
    reason = f'exit status {status}' if status else None
    if reason is None:
        try:
            metrics = results_of(run.folder, run.iterations)
        except ValueError as error:
            reason = str(error)
        else:
            write_record(run.folder, record._replace(metrics=metrics))
            table.results[run.folder] = metrics
    if reason is not None:
        table.failed[run.folder] = reason
    return reason


def _measure(run: Run, config: str, table: '_Table') -> str | None:
    """Add the metrics of every inference mode on the test set to a run's results; returns the reason if it failed."""
    metrics = table.results[run.folder]
    assert metrics is not None
    try:
        metrics = metrics | _inference_modes(run, config)
    except (ValueError, FileNotFoundError) as error:
        table.failed[run.folder] = str(error)
        return str(error)
    write_record(run.folder, Record(run.fingerprint, list(run.options), metrics))
    table.results[run.folder] = metrics
    return None


def _inference_modes(run: Run, config: str) -> dict[str, float]:
    """Metrics of the last checkpoint as MODE/METRIC, without the undefined ones."""
    checkpoint = find_latest_checkpoint(str(run.folder))
    if checkpoint is None:
        raise ValueError(f'{run.folder}: found no checkpoint. Fix: set default_hooks.checkpoint.save_last=True')
    options = parse_options(run.options)
    _, rows, _ = compare_inference(run.case.config or config, checkpoint, run.folder, cfg_options=options)
    return {
        f'{mode}/{name}': value
        for mode, *values, _ in rows
        for name, value in zip(METRICS, values, strict=True)
        if isinstance(value, float) and not math.isnan(value)
    }


def _title(config: str | Path, runs: Sequence[Run], inference: bool) -> str:
    """The line above the table."""
    configs = dict.fromkeys(Path(run.case.config or config).stem for run in runs)
    title = f'{", ".join(configs)}: last validation of each run'
    return f'{title}; semantic/… and other modes: its last checkpoint on the test set' if inference else title


class _Table:
    """The table of a sweep with the results so far.

    Args:
        runs: runs of the sweep; their folders are checked here, before the first training.
        out: folder of the table.
        metrics: columns; None for the default.
        setting: name of the swept setting.
        title: the line above the table.
    """

    def __init__(self, runs: Sequence[Run], out: Path, metrics: Sequence[str] | None, setting: str, title: str) -> None:
        self.runs = runs
        self.results = {run.folder: finished(run) for run in runs}
        self.failed: dict[Path, str] = {}
        self.files = [out / name for name in FILES]
        for file in self.files:
            require_writable(file)
        self.metrics = metrics
        self.setting = setting
        self.title = title

    def report_another(self, say: Callable[[str], None]) -> None:
        """Report rows of an older table that are not part of this sweep: the table is replaced, their runs are kept."""
        if not self.files[1].is_file():
            return
        with open(self.files[1], encoding='utf-8', newline='') as stream:
            names = [row[0] for row in csv.reader(stream) if row]
        others = [name for name in names[1:] if name not in {run.case.name for run in self.runs}]
        if others:
            say(
                f'{self.files[1]} has rows of another sweep ({names[0]}: {", ".join(others)}), which are removed from '
                'the table; their runs are kept'
            )

    def write(self, *, strict: bool) -> Sweep:
        """Write the table and the plot.

        Args:
            strict: whether an unknown metric is an error; if not, the default columns are written, because a wrong name
                should not stop the training.

        Raises:
            ValueError: if a metric is unknown.
        """
        table = self._filled(strict)
        write_tables(self.files[0].with_suffix(''), table.header, table.rows, self.title)
        files = self.files[:2]
        if table.curves:
            names = [row[0] for row in table.rows]
            plot_sweep(list(map(str, names)), table.curves, self.setting, self.files[2], table.deviations, self.title)
            files = self.files
        else:
            self.files[2].unlink(missing_ok=True)  # of an older sweep
        return Sweep(table.header, table.rows, files, self.failed)

    def _filled(self, strict: bool) -> SweepTable:
        cases = []
        for case in dict.fromkeys(run.case for run in self.runs):
            of_case = [run for run in self.runs if run.case == case]
            ended = [result for run in of_case if (result := self.results[run.folder]) is not None]
            broken = sum(run.folder in self.failed for run in of_case)
            cases.append(CaseResult(case.name, of_case[0].parameters, ended, len(of_case), broken))
        try:
            return sweep_table(cases, self.setting, self.metrics)
        except ValueError:
            if strict:
                raise
            return sweep_table(cases, self.setting)
