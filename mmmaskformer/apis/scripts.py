"""Running the training and test scripts of the hosts without mim."""

import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mmmaskformer import compat
from mmmaskformer.apis.config_files import read_config_file


def find_script(name: str, arguments: Sequence[str]) -> Path:
    """Find the script of the host of a config, as `mim` would.

    Args:
        name: 'train.py' or 'test.py'.
        arguments: arguments of the command line; the config is the first one that ends in .py, and its
            ``default_scope`` names the host.

    Returns:
        The script.

    Raises:
        FileNotFoundError: if no argument is a config, or the config or one of its bases does not exist.
        ValueError: if the first argument is not a config, or it cannot be read, or its host is unknown or not
            installed.
        ImportError: if the installed packages are incompatible.
    """
    if arguments and not arguments[0].startswith('-') and not arguments[0].endswith('.py'):
        raise ValueError(
            f'{arguments[0]}: found this as the first argument, expected a config, a .py file. Fix: '
            f'mmmaskformer {name.removesuffix(".py")} CONFIG {"CHECKPOINT " * (name == "test.py")}…'
        )
    config = next((argument for argument in arguments if argument.endswith('.py')), None)
    if config is None:
        raise FileNotFoundError(f'found no config among {list(arguments)}. Fix: pass the path of a config, a .py file')
    compat.apply()  # first, since the config's imports would wrap an error in a misleading message
    return host_script(read_config_file(config).get('default_scope'), name)


def run_script(script: Path, arguments: Sequence[str]) -> None:
    """Run a script in this process as ``python SCRIPT ARGUMENTS`` would."""
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name='__main__')


def host_script(host: str | None, name: str) -> Path:
    """Path of a script inside an installed host.

    Args:
        host: 'mmseg' or 'mmdet'.
        name: 'train.py' or 'test.py'.

    Returns:
        The script.

    Raises:
        ValueError: if the host is unknown, not installed, or installed without its scripts.
    """
    packages = {'mmseg': 'mmsegmentation', 'mmdet': 'mmdet'}
    if host not in packages:
        raise ValueError(f"default_scope={host!r}: expected 'mmseg' or 'mmdet'. Fix: inherit configs/_base_.")
    spec = find_spec(host)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f'{host} is not installed. Fix: pip install {packages[host]}')
    root = Path(spec.submodule_search_locations[0])
    for script in (root / '.mim' / 'tools' / name, root.parent / 'tools' / name):
        if script.is_file():
            return script
    raise ValueError(f'{host} at {root} has no tools/{name}. Fix: pip install --force-reinstall {packages[host]}')
