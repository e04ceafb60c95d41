"""The checkpoint files of a training run: which there are, which are whole, what kind a file is."""

import re
import zipfile
from pathlib import Path
from typing import NamedTuple

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint

POINTER = 'last_checkpoint'
"""The file of a work dir in which mmengine writes the path of the newest checkpoint."""

VALIDATED = 'last_validation'
"""Key of mmengine's message hub, which checkpoints hold: the iteration after which the last validation ended.

A key that begins with 'val' would be logged among the scores.
"""


class CheckpointFolder(NamedTuple):
    """Where a run keeps its checkpoints.

    Attributes:
        path: the folder.
        template: name of a file, with braces in the place of the iteration or epoch: ``iter_{}.pth``.
    """

    path: Path
    template: str

    def checkpoints(self) -> dict[int, Path]:
        """The files whose name fits the template, by iteration or epoch, the newest first."""
        pattern = re.compile(r'(\d+)'.join(map(re.escape, self.template.split('{}'))))
        found = ((pattern.fullmatch(path.name), path) for path in self.path.glob('*') if path.is_file())
        return dict(sorted(((int(match[1]), path) for match, path in found if match), reverse=True))


def checkpoint_folder(runner: Runner) -> CheckpointFolder | None:
    """Where a run keeps its checkpoints.

    Args:
        runner: before its training starts.

    Returns:
        The folder, or None if it is on no disk of this machine.
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
    """Whether a checkpoint is complete, by the checksums that torch writes with every tensor."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors files do: 8 bytes with the length of a JSON object, then the object."""
    with open(path, 'rb') as stream:
        return stream.read(9)[8:] == b'{'


def origin_of_weights(runner: Runner) -> str | None:
    """The checkpoint that a runner loads or has loaded, for messages."""
    named = getattr(runner, '_load_from', None) or runner.cfg.get('load_from')
    return named or find_latest_checkpoint(runner.work_dir)
