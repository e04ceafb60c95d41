"""mmengine's backend for local files, with atomic writes."""

from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend

from mmmaskformer.formats.whole_files import write_whole

BACKEND = 'mmmaskformer.whole'


class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files, with atomic writes."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; a missing folder is created."""
        _put(self, obj, filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; a missing folder is created."""
        _put_text(self, obj, filepath, encoding)


register_backend(BACKEND, WholeFileBackend, force=True)


def write_host_files_whole() -> None:
    """Make all further writes through mmengine in this process atomic.

    This covers ``mmengine.fileio`` (the pickle of ``--out``, JSON results of the hosts' metrics, pictures, results of
    inferencers) and the copy of the config in a work dir. Paths and contents do not change.
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
    """`Config.dump` with atomic writes of Python files."""
    if file is None or not str(file).endswith('.py'):
        return _plain_dump(self, file)
    write_whole(file, self.pretty_text)


_plain_dump = Config.dump
