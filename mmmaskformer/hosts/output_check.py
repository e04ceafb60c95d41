"""A hook that checks at the start that results can be written; a registry location for `HOOKS`."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmmaskformer.core.checks import checked
from mmmaskformer.formats.whole_files import require_writable
from mmmaskformer.hosts.file_backend import write_host_files_whole
from mmmaskformer.hosts.metrics import all_metrics
from mmmaskformer.registry import HOOKS


class Output(NamedTuple):
    """An output of a metric.

    Attributes:
        key: setting with the path.
        path: path of the file or folder.
        folder: whether it is a folder.
    """

    key: str
    path: Path
    folder: bool


@HOOKS.register_module()
@checked()
class CheckOutputsHook(Hook):
    """Refuses outputs that cannot be written, and makes the writes of mmengine and the hosts atomic.

    It checks the metrics of validation and test, including those that a host's script adds for ``--out``, and the
    folder that MMDetection's hook draws into. A path is refused if it exists and is not a file (or a folder, where one
    is expected), or if its folder is read-only.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        write_host_files_whole()

    def before_run(self, runner: Runner) -> None:
        """Check the outputs of all metrics and hooks.

        Raises:
            OSError: if an output cannot be written; names the first one.
        """
        for hook in getattr(runner, 'hooks', ()):
            drawn = getattr(hook, 'test_out_dir', None) if getattr(hook, 'draw', False) else None
            if drawn is not None:
                # the hook joins it in the same way
                folder = Path(runner.work_dir, runner.timestamp, drawn)
                require_writable(folder, f'{type(hook).__name__}.test_out_dir', folder=True)
        for loop in (runner._val_loop, runner._test_loop):
            if isinstance(loop, BaseLoop):
                for metric in all_metrics(loop.evaluator.metrics):
                    check_outputs(metric)


def check_outputs(metric: BaseMetric) -> None:
    """Check that a metric can write its results.

    Raises:
        OSError: if an output cannot be written; names the first one.
    """
    for output in outputs_of(metric):
        if '://' not in str(output.path):
            require_writable(output.path, f'{type(metric).__name__}.{output.key}', folder=output.folder)


def outputs_of(metric: BaseMetric) -> Iterator[Output]:
    """Yield the outputs of a metric of this package or of the hosts, as far as its attributes show them."""
    for key, folder in (('out_file_path', False), ('image_table', False), ('output_dir', True)):
        path = getattr(metric, key, None)
        if path is not None:
            yield Output(key, Path(path), folder)
    prefix = getattr(metric, 'outfile_prefix', None)
    if prefix is not None:
        for ending in ('.bbox.json', '.segm.json', '.panoptic.json'):
            yield Output('outfile_prefix', Path(f'{prefix}{ending}'), False)
        yield Output('outfile_prefix', Path(f'{prefix}.panoptic'), True)
