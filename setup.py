"""Everything is in setup.cfg, but for one file that setuptools has no way to install.

Python runs a .pth file at start-up only if it lies in site-packages itself; `mmmaskformer.startup` says what for. It is
added to the wheel after setuptools has built it, to an editable one as well.
"""

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.editable_wheel import editable_wheel

STARTUP_FILE = 'mmmaskformer-startup.pth'
# One line, as .pth files want it; harmless when the package is gone.
STARTUP = b"""\
import importlib.util; importlib.util.find_spec('mmmaskformer') and importlib.import_module('mmmaskformer.startup')
"""


def add_startup_file(wheel: Path) -> None:
    """Put the file at the top of a wheel and into its list of files."""
    with ZipFile(wheel) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if STARTUP_FILE in contents:
        return
    digest = urlsafe_b64encode(sha256(STARTUP).digest()).decode().rstrip('=')
    record = next(name for name in contents if name.endswith('.dist-info/RECORD'))
    contents[record] += f'{STARTUP_FILE},sha256={digest},{len(STARTUP)}\n'.encode()
    with ZipFile(wheel, 'w', ZIP_DEFLATED) as archive:
        for name, content in (contents | {STARTUP_FILE: STARTUP}).items():
            archive.writestr(name, content)


def with_startup_file(command: type) -> type:
    """A setuptools command that builds wheels, followed by the above."""

    def run(self) -> None:
        command.run(self)
        for wheel in Path(self.dist_dir).glob('mmmaskformer-*.whl'):
            add_startup_file(wheel)

    return type(command.__name__, (command,), {'run': run})


setup(cmdclass={'bdist_wheel': with_startup_file(bdist_wheel), 'editable_wheel': with_startup_file(editable_wheel)})
