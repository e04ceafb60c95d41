"""Safe replacements for the functions that pickles call to restore numpy arrays.

numpy trusts a pickle. ``numpy.ndarray(shape, 'O', bytes)`` interprets bytes of the file as addresses of objects, and
``numpy.dtype.__setstate__`` can hide object fields in a type of plain bytes: using such an array reads memory that the
file chooses, or executes code there. The functions of this module replace those of numpy while a file is read. They
accept what numpy itself writes for arrays of numbers, strings and plain objects, and refuse everything else.
"""

import codecs
import math
import pickle
import re
from typing import Any

import numpy as np

CODES = re.compile(r'[?bBhHiIlLqQefdFD]|[biuf](1|2|4|8)|c(8|16)|[SU]\d{1,9}|O8?')
"""Codes of the accepted types: booleans, numbers, strings of a fixed length, and lists of plain objects."""


class PlainType:
    """Replaces ``numpy.dtype``.

    Args:
        code: of the type, such as 'f4'.

    Raises:
        pickle.UnpicklingError: if the type is not in `CODES`.
    """

    def __init__(self, code: Any, *_: Any):
        if isinstance(code, bytes):
            code = code.decode('latin1')
        if not isinstance(code, str) or not CODES.fullmatch(code):
            raise pickle.UnpicklingError(f'it contains an array of type {code!r}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Set the byte order, the only state of a built-in numpy type."""
        if not isinstance(state, tuple) or len(state) < 5 or any(item is not None for item in state[2:5]):
            raise pickle.UnpicklingError('it contains an array of records')
        order: Any = state[1].decode('latin1') if isinstance(state[1], bytes) else state[1]
        if order not in ('<', '>', '=', '|'):
            raise pickle.UnpicklingError(f'it contains an array with the byte order {order!r}')
        if order != '|':
            self.dtype = self.dtype.newbyteorder(order)


class PlainArray(np.ndarray):
    """Replaces ``numpy.ndarray``, of which it is a subclass, and is pickled as one."""

    def __new__(cls, *_: Any, **__: Any) -> 'PlainArray':
        """Refuse, since numpy writes arrays with `reconstruct`.

        Raises:
            pickle.UnpicklingError: always.
        """
        raise pickle.UnpicklingError('it creates an array over arbitrary memory')

    def __setstate__(self, state: Any) -> None:
        """Fill an empty array with the state that numpy wrote: version, shape, type, order and content."""
        if not isinstance(state, tuple) or len(state) != 5 or self.size:
            raise pickle.UnpicklingError('it holds an array that numpy has not written')
        _, shape, kind, fortran, content = state
        dtype, shape = _dtype(kind), _shape(shape)
        content = content.encode('latin1') if isinstance(content, str) else content
        wanted = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if not isinstance(content, list if dtype.hasobject else bytes) or len(content) != wanted:
            raise pickle.UnpicklingError(f'it holds an array of shape {shape} with a content of another size')
        written: Any = (1, shape, dtype, bool(fortran), content)
        super().__setstate__(written)

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def reconstruct(kind: Any, shape: Any, code: Any) -> PlainArray:
    """Replace numpy's ``_reconstruct``: an empty array, whose content follows in the file."""
    if kind is not PlainArray:
        raise pickle.UnpicklingError(f'it contains an array of the class {kind!r}')
    return np.empty(0, np.int8).view(PlainArray)


def scalar(kind: Any, content: Any = b'') -> Any:
    """Replace numpy's ``scalar``: a number or string of numpy."""
    dtype = _dtype(kind)
    content = content.encode('latin1') if isinstance(content, str) else content
    if dtype.hasobject or not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise pickle.UnpicklingError('it holds a number that numpy has not written')
    return np.frombuffer(content, dtype, count=1)[0] if dtype.itemsize else dtype.type()


def from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Replace numpy's ``_frombuffer``, which protocol 5 uses."""
    dtype, shape = _dtype(kind), _shape(shape)
    if dtype.hasobject or not isinstance(content, bytes | bytearray) or order not in ('C', 'F'):
        raise pickle.UnpicklingError('it holds an array that numpy has not written')
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise pickle.UnpicklingError(f'it holds an array of shape {shape} with a content of another size')
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def encode(text: Any, encoding: Any = '') -> bytes:
    """Replace ``codecs.encode``, with which protocol 2 stores bytes."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise pickle.UnpicklingError(f'it contains a string in the encoding {encoding!r}')
    return codecs.encode(text, 'latin1')


def stand_ins() -> dict[str, Any]:
    """The replacements by name, for numpy 1 and for numpy 2, which renamed its core package."""
    found: dict[str, Any] = {'numpy.ndarray': PlainArray, 'numpy.dtype': PlainType}
    for package in ('numpy.core', 'numpy._core'):
        found[f'{package}.multiarray._reconstruct'] = reconstruct
        found[f'{package}.multiarray.scalar'] = scalar
        found[f'{package}.numeric._frombuffer'] = from_buffer
    return found


def _dtype(kind: Any) -> np.dtype:
    if not isinstance(kind, PlainType):
        raise pickle.UnpicklingError(f'it holds an array of type {kind!r}')
    return kind.dtype


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise pickle.UnpicklingError(f'it holds an array of shape {shape!r}')
    return shape
