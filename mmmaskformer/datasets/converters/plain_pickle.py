"""Reader for pickles of plain values and numpy arrays that executes no code from them."""

import pickle
from pathlib import Path
from typing import Any

from mmmaskformer.formats import plain_arrays

ALLOWED = {**plain_arrays.stand_ins(), '_codecs.encode': plain_arrays.encode}


class _Unknown:
    """Replaces an object of a class that is not on the list; stores and does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Ignore an appended value."""

    def extend(self, values: object) -> None:
        """Ignore appended values."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get(f'{module}.{name}', _Unknown)


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle; objects of classes other than numpy arrays are replaced by empty ones.

    Args:
        path: of the file.

    Raises:
        ValueError: if the file is not a pickle, or is damaged.
    """
    try:
        with open(path, 'rb') as stream:
            return _PlainUnpickler(stream).load()
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f'{path}: {path.stat().st_size} bytes that are not a complete pickle ({type(error).__name__}: {error}). '
            'Expected the published file. Fix: unpack the archive again.'
        ) from error
