"""Adds two files that setuptools cannot install; everything else is in setup.cfg.

Python runs a .pth file at start-up only if it is in site-packages itself; `mmmaskformer.startup` explains its purpose.
mim and mmengine look for the configs of a package in the folder that top_level.txt names, next to its metadata. An
editable package is not there, so its top_level.txt gets the absolute path. Both files are added to the wheel after
setuptools has built it.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.editable_wheel import editable_wheel

STARTUP_FILE = 'mmmaskformer-startup.pth'
# One line, as .pth files require; harmless without the package, and switched off by MMMASKFORMER_STARTUP=0.
STARTUP = b"""\
import importlib.util, os; os.environ.get('MMMASKFORMER_STARTUP') != '0' and importlib.util.find_spec('mmmaskformer') \
and importlib.import_module('mmmaskformer.startup')
"""
# an absolute path: os.path.join(site-packages, LOCATION) is LOCATION
LOCATION = f'{Path(__file__).resolve().parent / "mmmaskformer"}\n'.encode()


def put_files(wheel: Path, files: dict[str, bytes]) -> None:
    """Add files to a wheel, or replace them.

    Args:
        wheel: the file; it is rewritten.
        files: name → content; a name that starts with '/' is relative to the folder of the metadata.
    """
    with ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    metadata = next(name for name in contents if name.endswith('.dist-info/RECORD')).removesuffix('/RECORD')
    contents |= {metadata + name if name.startswith('/') else name: content for name, content in files.items()}
    del contents[f'{metadata}/RECORD']
    with ZipFile(wheel, 'w', ZIP_DEFLATED) as archive:
        lines = []
        for name, content in contents.items():
            digest = urlsafe_b64encode(sha256(content).digest()).decode().rstrip('=')
            lines.append(f'{name},sha256={digest},{len(content)}\n')
            archive.writestr(name, content)
        archive.writestr(f'{metadata}/RECORD', ''.join([*lines, f'{metadata}/RECORD,,\n']))


def with_files(command: type, files: dict[str, bytes]) -> type:
    """A setuptools command that builds wheels and then adds files to them; see `put_files`."""

    def run(self) -> None:
        command.run(self)
        for wheel in Path(self.dist_dir).glob('mmmaskformer-*.whl'):
            put_files(wheel, files)

    return type(command.__name__, (command,), {'run': run})


startup = {STARTUP_FILE: STARTUP}
setup(
    cmdclass={
        'bdist_wheel': with_files(bdist_wheel, startup),
        'editable_wheel': with_files(editable_wheel, startup | {'/top_level.txt': LOCATION}),
    }
)
