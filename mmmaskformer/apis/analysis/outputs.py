"""Checks of the output files of an analysis, before the model runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmaskformer.datasets.inspection import input_paths
from mmmaskformer.formats.whole_files import require_writable


def output_files(out: str | Path, *names: str) -> list[Path]:
    """The files that an analysis will write, checked before the model runs.

    Args:
        out: folder of the files; it may not exist yet.
        names: file names.

    Raises:
        OSError: if the folder or one of the files cannot be written.
    """
    require_writable(out, 'out', folder=True)
    files = [Path(out) / name for name in names]
    for file in files:
        require_writable(file, 'out')
    return files


def require_no_input(files: Sequence[Path], dataset: Any) -> None:
    """Check that no output file is a file of the dataset.

    Args:
        files: files to write.
        dataset: dataset of the analysis, with or without wrappers.

    Raises:
        ValueError: if an image or annotation would be replaced; the message names it.
    """
    inputs = {Path(path).resolve() for path in input_paths(dataset)}
    for file in files:
        if file.resolve() in inputs:
            raise ValueError(f'out: {file} is a file of the dataset. Fix: choose another folder')
