"""The checkpoint files of a training run: listing them, checking that they are complete, recognising their kind."""

import re
import string
import zipfile
from pathlib import Path
from typing import NamedTuple

import torch
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
        """The files whose name matches the template, by iteration or epoch, newest first.

        Folders count as well, in which strategies of `mmengine.runner.FlexibleRunner` save the parts of a checkpoint.
        """
        pattern = numbered(self.template)
        found = ((pattern.fullmatch(path.name), path) for path in self.path.glob('*'))
        return dict(sorted(((int(match[1]), path) for match, path in found if match), reverse=True))


def numbered(template: str) -> re.Pattern:
    """A pattern for the names of a template.

    Args:
        template: file name with braces for a number, which may have a format: ``iter_{:06d}.pth``.
    """
    parts = string.Formatter().parse(template)
    return re.compile(''.join(re.escape(text) + r'(\d+)' * (field is not None) for text, field, *_ in parts))


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
    """Whether a checkpoint is complete, judging by the checksums that torch stores with every tensor.

    Args:
        path: a file, or a folder with the files of several processes.
    """
    if path.is_dir():
        parts = [part for part in path.rglob('*') if part.suffix in ('.pt', '.pth')]
        return bool(parts) and all(map(is_whole, parts))
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
            names = {name.partition('/')[2] for name in archive.namelist()}
        # zipfile tolerates more damage to the directory of the archive than torch
        return names == set(torch._C.PyTorchFileReader(str(path)).get_all_records())
    except Exception:  # a flipped bit of the directory can raise almost anything
        return False


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like a safetensors file: 8 bytes with the length of a JSON object, then the object."""
    with open(path, 'rb') as stream:
        return stream.read(9)[8:] == b'{'


def origin_of_weights(runner: Runner) -> str | None:
    """The checkpoint that a runner loads or has loaded, for messages."""
    named = getattr(runner, '_load_from', None) or runner.cfg.get('load_from')
    return named or find_latest_checkpoint(runner.work_dir)
