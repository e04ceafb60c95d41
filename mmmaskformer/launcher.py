"""Shorter error messages of mim, for a missing config and for a script that has failed."""

import difflib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

CONFIGS = Path(__file__).resolve().parent / '.mim' / 'configs'
MODULES = {'mmsegmentation': 'mmseg', 'mmseg': 'mmseg', 'mmdet': 'mmdet', 'mmdetection': 'mmdet'}
"""Names of the hosts in mim."""
NO_CONFIG = "doesn't exist and we"
"""Part of mim's error for a missing config."""


def keep_the_error_of_the_script_last() -> None:
    """Suppress the traceback of a launcher if its script has already printed an error.

    `mim train`, `mim test` and `mim run` start a script of the host in a separate process and raise CalledProcessError
    when it fails. That traceback, which contains only the command, would hide the script's own error message. For a
    missing config, mim's traceback is replaced by one line. The exit status is still 1, and all other exceptions are
    printed as before.
    """
    print_exception = sys.excepthook

    def hook(kind, error, traceback) -> None:
        if isinstance(error, ValueError) and NO_CONFIG in str(error) and (config := missing_config(sys.argv)):
            print(f'error: {describe_missing(config)}', file=sys.stderr)
        elif not has_explained_itself(error):
            print_exception(kind, error, traceback)

    sys.excepthook = hook


def has_explained_itself(error: BaseException) -> bool:
    """Whether an exception only reports that a script of an OpenMMLab package has failed with its own message.

    Args:
        error: exception that ended the launcher.

    Returns:
        False for a script killed by a signal, which prints nothing, and for other commands such as srun.
    """
    if not isinstance(error, subprocess.CalledProcessError) or error.returncode <= 0:
        return False
    command = error.cmd if isinstance(error.cmd, list) else []
    return len(command) > 1 and command[0] == sys.executable and '.mim' in Path(command[1]).parts


def missing_config(arguments: list[str]) -> str | None:
    """The config in a command line of mim, if the file does not exist.

    Args:
        arguments: as in ``mim train PACKAGE CONFIG …``.
    """
    if len(arguments) < 4 or arguments[1] not in ('train', 'test'):
        return None
    config = next((argument for argument in arguments[3:] if argument.endswith('.py')), None)
    return None if config is None or Path(config).exists() else config


def describe_missing(config: str) -> str:
    """A message for a missing config that suggests a shipped one with the same or a similar name."""
    own = {path.name: path for path in sorted(CONFIGS.rglob('*.py'))}
    near = difflib.get_close_matches(Path(config).name, own, n=1, cutoff=0.7)
    hint = f' such as {own[near[0]]}' if near else ''
    where = 'relative paths start at the working directory'
    return f'config {config}: no such file. Fix: pass the path of a config{hint}; {where}'


def warn_of_a_config_with_the_same_name() -> None:
    """Warn if mim uses the host's config of the same name because a path of ours is misspelt."""
    config = missing_config(sys.argv)
    host = MODULES.get(sys.argv[2].lower()) if config else None
    if host is None or not any(CONFIGS.rglob(Path(config).name)):
        return
    spec = find_spec(host)
    folders = spec.submodule_search_locations if spec else None
    if folders and any((Path(folders[0]) / '.mim' / 'configs').rglob(Path(config).name)):
        print(
            f'warning: {describe_missing(config)}. mim uses the config of the same name in {host} instead.',
            file=sys.stderr,
        )
