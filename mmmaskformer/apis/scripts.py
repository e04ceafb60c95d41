"""Run the training and test scripts that the hosts ship, without mim."""

import argparse
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from mmmaskformer import compat


def run_host_script(name: str) -> None:
    """Hand the command line to the script of the host that the config is for, as `mim` does.

    The config is the first argument that ends in .py; its ``default_scope`` names the host. All other arguments are
    the host script's own; ``--help`` without a config explains how to see them.

    Args:
        name: 'train.py' or 'test.py'.
    """
    parser = argparse.ArgumentParser(
        description=f"Runs {name} of MMSegmentation or MMDetection, whichever the config's default_scope names. "
        'Further arguments go to that script; to list them: CONFIG --help.',
        add_help=False,
    )
    parser.add_argument('config', nargs='?', help='config file, a .py')
    args, _ = parser.parse_known_args([argument for argument in sys.argv[1:] if argument.endswith('.py')])
    if args.config is None:
        parser.print_help()
        parser.exit(0 if {'-h', '--help'} & set(sys.argv) else 2)
    if not Path(args.config).is_file():
        parser.error(f'config {args.config}: no such file. Fix: give the path of a config such as configs/….py')
    try:
        compat.apply()  # before the config's imports, which would wrap the message in a misleading one
        script = host_script(Config.fromfile(args.config).get('default_scope'), name)
    except (ImportError, ValueError) as error:
        parser.error(str(error))
    sys.argv[0] = str(script)
    runpy.run_path(str(script), run_name='__main__')


def host_script(host: str | None, name: str) -> Path:
    """Path of a script inside an installed host.

    Args:
        host: 'mmseg' or 'mmdet'.
        name: 'train.py' or 'test.py'.

    Returns:
        The script.

    Raises:
        ValueError: if the host is another one or not installed, or was installed without its scripts.
    """
    packages = {'mmseg': 'mmsegmentation', 'mmdet': 'mmdet'}
    if host not in packages:
        raise ValueError(f"default_scope={host!r}: expected 'mmseg' or 'mmdet'. Fix: inherit configs/_base_.")
    spec = find_spec(host)
    if spec is None:
        raise ValueError(f'{host} is not installed. Fix: pip install {packages[host]}')
    root = Path(spec.submodule_search_locations[0])
    for script in (root / '.mim' / 'tools' / name, root.parent / 'tools' / name):
        if script.is_file():
            return script
    raise ValueError(f'{host} at {root} has no tools/{name}. Fix: pip install --force-reinstall {packages[host]}')
