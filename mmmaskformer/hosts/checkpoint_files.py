"""The checkpoint files of a training run: listing them, checking that they are complete, recognising their kind."""

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint

POINTER = 'last_checkpoint'
"""The file of a work dir in which mmengine writes the path of the newest checkpoint."""

VALIDATED = 'last_validation'
"""Key of mmengine's message hub, which is saved in checkpoints: the iteration of the last complete validation.

It must not begin with 'val': mmengine would log it as a metric.
"""


class CheckpointFolder(NamedTuple):
    """The folder of a run's checkpoints.

    Attributes:
        path: the folder.
        template: file name with braces for the iteration or epoch: ``iter_{}.pth``.
    """

    path: Path
    template: str

    def checkpoints(self) -> dict[int, Path]:
        """The files whose name matches the template, by iteration or epoch, newest first."""
        pattern = re.compile(r'(\d+)'.join(map(re.escape, self.template.split('{}'))))
        found = ((pattern.fullmatch(path.name), path) for path in self.path.glob('*') if path.is_file())
        return dict(sorted(((int(match[1]), path) for match, path in found if match), reverse=True))


def checkpoint_folder(runner: Runner) -> CheckpointFolder | None:
    """Find the folder of a run's checkpoints.

    Args:
        runner: runner whose training has not started.

    Returns:
        The folder; None if it is not on a local disk.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    out_dir, template = getattr(hook, 'out_dir', None), getattr(hook, 'filename_tmpl', 'iter_{}.pth')
    if any('://' in str(path) for path in (out_dir, runner.work_dir)):
        return None
    work_dir = Path(runner.work_dir)
    if out_dir is None or Path(out_dir) == work_dir:
        return CheckpointFolder(work_dir, template)
    # mmengine adds the name of the work dir, so that runs may share an out_dir
    return CheckpointFolder(Path(out_dir) / work_dir.name, template)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is complete, judging by the checksums that torch stores with every tensor."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like a safetensors file: 8 bytes with the length of a JSON object, then the object."""
    with open(path, 'rb') as stream:
        return stream.read(9)[8:] == b'{'


def origin_of_weights(runner: Runner) -> str | None:
    """The checkpoint that a runner loads or has loaded, for messages."""
    named = getattr(runner, '_load_from', None) or runner.cfg.get('load_from')
    return named or find_latest_checkpoint(runner.work_dir)
