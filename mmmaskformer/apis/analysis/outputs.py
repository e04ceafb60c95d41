"""Where an analysis writes its files: checked before the model runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmaskformer.datasets.inspection import input_paths
from mmmaskformer.formats.whole_files import require_writable


def output_files(out: str | Path, *names: str) -> list[Path]:
    """The files that an analysis will write, before the work of minutes or hours.

    Args:
        out: their folder, which need not exist.
        names: of the files.

    Raises:
        OSError: if the folder or one of the files cannot be written.
    """
    require_writable(out, 'out', folder=True)
    files = [Path(out) / name for name in names]
    for file in files:
        require_writable(file, 'out')
    return files


def require_no_input(files: Sequence[Path], dataset: Any) -> None:
    """Check that the files are none of a data set.

    Args:
        files: to write.
        dataset: that is read, with or without wrappers.

    Raises:
        ValueError: naming the image or annotation that would be replaced.
    """
    inputs = {Path(path).resolve() for path in input_paths(dataset)}
    for file in files:
        if file.resolve() in inputs:
            raise ValueError(f'out: {file} is a file of the data set. Fix: give another folder')
