"""Everything is in setup.cfg, but for two files that setuptools has no way to install.

Python runs a .pth file at start-up only if it lies in site-packages itself; `mmmaskformer.startup` says what for.
An editable install gets a second file, which tells pkg_resources, and with it mim and mmengine, that the package lies
in this folder; otherwise they look for its configs in site-packages. Both are added to the wheel after setuptools has
built it.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.editable_wheel import editable_wheel

STARTUP_FILE = 'mmmaskformer-startup.pth'
# One line, as .pth files want it; harmless when the package is gone, and switched off by MMMASKFORMER_STARTUP=0.
STARTUP = b"""\
import importlib.util, os; os.environ.get('MMMASKFORMER_STARTUP') != '0' and importlib.util.find_spec('mmmaskformer') \
and importlib.import_module('mmmaskformer.startup')
"""
# pkg_resources reads the files of a folder in the order of their names and keeps the first of each distribution.
LOCATION_FILE = '_mmmaskformer.egg-link'
LOCATION = f'{Path(__file__).resolve().parent}\n'.encode()


def add_files(wheel: Path, files: dict[str, bytes]) -> None:
    """Put files at the top of a wheel and into its list of files."""
    with ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    files = {name: content for name, content in files.items() if name not in contents}
    record = next(name for name in contents if name.endswith('.dist-info/RECORD'))
    for name, content in files.items():
        digest = urlsafe_b64encode(sha256(content).digest()).decode().rstrip('=')
        contents[record] += f'{name},sha256={digest},{len(content)}\n'.encode()
    with ZipFile(wheel, 'w', ZIP_DEFLATED) as archive:
        for name, content in (contents | files).items():
            archive.writestr(name, content)


def adding(command: type, files: dict[str, bytes]) -> type:
    """A setuptools command that builds wheels, followed by the above."""

    def run(self) -> None:
        command.run(self)
        for wheel in Path(self.dist_dir).glob('mmmaskformer-*.whl'):
            add_files(wheel, files)

    return type(command.__name__, (command,), {'run': run})


startup = {STARTUP_FILE: STARTUP}
setup(
    cmdclass={
        'bdist_wheel': adding(bdist_wheel, startup),
        'editable_wheel': adding(editable_wheel, startup | {LOCATION_FILE: LOCATION}),
    }
)
