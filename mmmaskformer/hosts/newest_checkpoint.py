"""The checkpoint that ``--resume`` continues from: the newest complete one of the run, or one that the user names."""

import logging
import sys
from argparse import ArgumentParser
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmmaskformer.hosts.checkpoint_files import POINTER, CheckpointFolder, is_safetensors, is_whole

SHOWN = 160
"""Characters of a path in a message: a damaged file may hold anything."""


def choose_checkpoint(runner: Runner, folder: CheckpointFolder) -> tuple[str | None, bool]:
    """Choose the checkpoint of a training run that is started with ``--resume``.

    Args:
        runner: runner whose training has not started.
        folder: folder of the checkpoints of this run.

    Returns:
        The file to load, or None, and whether the run is resumed from it.

    Raises:
        ValueError: if the file that the user names, or each checkpoint of the run, is damaged.
    """
    requested, options = runner._load_from, _command_line()
    own_folders = {folder.path.resolve(), Path(runner.work_dir).resolve()}
    if requested is not None and (requested == options.resume or Path(requested).resolve().parent in own_folders):
        if Path(requested).is_file() and not is_whole(Path(requested)):
            raise ValueError(f'checkpoint {requested} is damaged. Fix: resume from another one.')
        _log(f'The run is resumed from {requested}, as requested.', logging.INFO)
        return requested, True
    own = _newest_whole(Path(runner.work_dir), folder)
    start = requested or (options.cfg_options or {}).get('load_from') or _load_from_of_file(runner.cfg)
    if requested is None and start is not None:
        require_torch_file(Path(start))
    if own is not None:
        ignored = f' load_from={start} is ignored: it is used only until this run has a checkpoint.' if start else ''
        _log(f'The run is resumed from {own}.{ignored}', logging.INFO)
        return str(own), True
    how = f'starts from the weights of load_from={start}' if start else 'starts at iteration 0'
    _log(f'There is no checkpoint of this run in {folder.path} to resume from; the run {how}.')
    return start, False


def _newest_whole(work_dir: Path, folder: CheckpointFolder) -> Path | None:
    """The checkpoint in ``last_checkpoint``, if it is in this folder and complete, else the newest complete one."""
    found = folder.checkpoints()
    named = _pointed_to(work_dir / POINTER)
    pointed = folder.path / named.name if named else None
    if pointed in found.values():
        pointed = _unless_outdated(pointed, work_dir / POINTER, list(found.values()))
    # a user may write only the file name
    if named and named.name != str(named) and named.parent.resolve() != folder.path.resolve():
        name = str(named)[:SHOWN]
        _log(f'{work_dir / POINTER} names {name}, in another folder; only files in {folder.path} are considered.')
    candidates = sorted(found.values(), key=lambda path: path != pointed)  # stable: the newest first
    broken = []
    for path in candidates:
        if is_whole(path):
            if broken or path != pointed:
                reason = f'damaged: {_names(broken)}' if broken else f'{work_dir / POINTER} does not name it'
                _log(f'{path} is the newest complete checkpoint of this run ({reason}).')
            return path
        broken.append(path)
    if broken:
        raise ValueError(
            f'{folder.path}: none of the checkpoints {_names(broken)} is complete, so the run cannot be resumed. '
            'Fix: remove them, or start without --resume in another work dir.'
        )
    return None


def _unless_outdated(pointed: Path, pointer: Path, checkpoints: list[Path]) -> Path | None:
    """The checkpoint in ``last_checkpoint``; None if that file is older than a newer checkpoint.

    A user may edit the file to choose an older checkpoint. If a run was killed before it updated the file, the newest
    checkpoint counts.
    """
    newer = checkpoints[: checkpoints.index(pointed)]
    if any(path.stat().st_mtime > pointer.stat().st_mtime for path in newer):
        return None
    if newer:
        _log(f'{pointer} names {pointed.name} and was written later than {_names(newer)}; the named file is used.')
    return pointed


def _pointed_to(pointer: Path) -> Path | None:
    """The path in ``last_checkpoint``; None if the file is empty, missing or damaged."""
    text = pointer.read_text(errors='replace').strip() if pointer.is_file() else ''
    if not text.isprintable():  # a file that was lost in a power failure may hold zeros
        _log(f'{pointer} is damaged and ignored; it begins with {text[:SHOWN]!r}.')
        return None
    return Path(text) if text else None


def _command_line():
    """Arguments of a host's training script: ``resume`` (a file) and ``cfg_options``, each None if absent."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--resume', nargs='?')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_known_args(sys.argv[1:])[0]


def _load_from_of_file(cfg: Config) -> str | None:
    """``load_from`` of the config file, which MMDetection's script clears when it gets ``--resume``."""
    if not cfg.filename or not Path(cfg.filename).is_file():
        return None
    return Config.fromfile(cfg.filename).get('load_from')


def require_torch_file(path: Path) -> None:
    """Raise a `ValueError` if a checkpoint is a safetensors file.

    Args:
        path: path of the checkpoint; need not exist.
    """
    if path.is_file() and is_safetensors(path):
        raise ValueError(
            f'checkpoint {path} is a safetensors file: it holds only weights, and mmengine cannot read it. Fix: '
            "convert it, torch.save({'state_dict': safetensors.torch.load_file(source)}, 'weights.pth'), and set "
            'load_from=weights.pth, which starts a new run from these weights.'
        )


def _names(paths: list[Path]) -> str:
    return ', '.join(path.name for path in paths)


def _log(text: str, level: int = logging.WARNING) -> None:
    print_log(text, logger='current', level=level)
