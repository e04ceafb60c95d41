"""mmengine's way to the disks of this machine, with files that are whole or absent."""

from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend

from mmmaskformer.formats.whole_files import write_whole

BACKEND = 'mmmaskformer.whole'


class WholeFileBackend(LocalBackend):
    """mmengine's file backend for this machine's disks, whose files are whole or absent."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, and the folder if it is missing."""
        _put(self, obj, filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text, and the folder if it is missing."""
        _put_text(self, obj, filepath, encoding)


register_backend(BACKEND, WholeFileBackend, force=True)


def write_host_files_whole() -> None:
    """From now on, what mmengine and the hosts write through mmengine in this process is whole or absent.

    That is what goes through ``mmengine.fileio`` (the pickle of ``--out``, JSON results of the hosts' metrics, drawn
    pictures, results of inferencers) and the copy of the config in a work dir. Paths and contents stay as they are.
    """
    LocalBackend.put, LocalBackend.put_text = _put, _put_text
    if Config.dump is not _dump:
        Config.dump = _dump


def _put(self: LocalBackend, obj: bytes, filepath: str | Path) -> None:
    Path(filepath).parent.mkdir(parents=True, exist_ok=True)
    write_whole(filepath, obj)


def _put_text(self: LocalBackend, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
    _put(self, obj.encode(encoding), filepath)


def _dump(self: Config, file: str | Path | None = None):
    """`Config.dump`, whose Python files are whole or absent."""
    if file is None or not str(file).endswith('.py'):
        return _plain_dump(self, file)
    write_whole(file, self.pretty_text)


_plain_dump = Config.dump
