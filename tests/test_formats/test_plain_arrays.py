"""Arrays in pickles: numpy's are read, those that would access other memory are refused."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import mmmaskformer.registry  # noqa: F401  tells torch what is safe
from mmmaskformer import safe_loading
from mmmaskformer.checkpoints import readers
from mmmaskformer.checkpoints.readers import read_pickle
from mmmaskformer.safe_loading import RestrictedUnpickler, read_safely

CORE = np.core if np.lib.NumpyVersion(np.__version__) < '2.0.0' else np._core
RECONSTRUCT, SCALAR = CORE.multiarray._reconstruct, CORE.multiarray.scalar
ADDRESS = b'\x41' * 8


class Call:
    """Calls a function when it is unpickled, then sets a state."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


HIDDEN = Call(np.dtype, 'V8', False, True, state=(3, '|', None, ('a',), {'a': (np.dtype('O'), 0)}, 8, 1, 0))
EMPTY = (np.ndarray, (0,), b'b')
F8 = np.dtype('f8')
HARMFUL = {
    'addresses of objects': Call(np.ndarray, (1,), np.dtype('O'), ADDRESS),
    'hidden fields': Call(RECONSTRUCT, *EMPTY, state=(1, (1,), HIDDEN, False, ADDRESS)),
    'hidden fields in a number': Call(SCALAR, HIDDEN, ADDRESS),
    'an object as a number': Call(SCALAR, np.dtype('O'), ADDRESS),
    'bytes as objects': Call(RECONSTRUCT, *EMPTY, state=(1, (1,), np.dtype('O'), False, ADDRESS)),
    'too few bytes': Call(RECONSTRUCT, *EMPTY, state=(1, (1 << 40,), F8, False, ADDRESS)),
    'too many bytes': Call(RECONSTRUCT, *EMPTY, state=(1, (0,), F8, False, ADDRESS)),
    'a negative size': Call(RECONSTRUCT, *EMPTY, state=(1, (-1, -1), F8, False, ADDRESS)),
    'another class': Call(RECONSTRUCT, dict, (0,), b'b'),
    'records': np.zeros(2, [('a', 'f4')]),
    'dates': np.zeros(2, 'M8[s]'),
}


@pytest.mark.parametrize('name', HARMFUL)
@pytest.mark.parametrize('reader', ['pickle', 'torch', 'torch before 2.6'])
def test_arrays_that_reach_into_memory_are_refused(tmp_path, name, reader):
    content = {'model': {'x': HARMFUL[name]}}
    with pytest.raises((ValueError, pickle.UnpicklingError)):
        if reader == 'pickle':
            read_pickle(io.BytesIO(pickle.dumps(content, 2)), 'a')
        elif reader == 'torch':
            torch.save(content, tmp_path / 'a.pth')
            read_safely(tmp_path / 'a.pth', name='a')
        else:
            RestrictedUnpickler(io.BytesIO(pickle.dumps(content, 2))).load()


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_an_empty_array_of_a_large_shape_needs_no_memory(protocol):
    call = Call(RECONSTRUCT, np.ndarray, (1 << 50,), b'd')
    assert read_pickle(io.BytesIO(pickle.dumps({'x': call}, protocol)), 'a')['x'].numel() == 0


def test_only_the_encoding_of_numpy_is_read():
    import codecs

    with pytest.raises(ValueError, match='encoding'):
        read_pickle(io.BytesIO(pickle.dumps({'x': Call(codecs.encode, 'x', 'punycode')}, 2)), 'a')


ARRAYS = [
    np.arange(6, dtype='>i2').reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(3.5),
    np.array([True, False]),
    np.array(['ab', 'c']),
    np.array([{'a': 1}, None, 'x'], object),
    np.array([1 + 2j]),
    np.float32(2.5),
    np.bool_(True),
    np.str_('abc'),
]


@pytest.mark.parametrize('array', ARRAYS, ids=lambda array: str(getattr(array, 'dtype', array)))
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_arrays_of_numpy_are_read_bit_for_bit(tmp_path, array, protocol):
    class Numpy(pickle.Unpickler):
        find_class = (readers if protocol == 5 else safe_loading).RestrictedUnpickler.find_class

    found = [Numpy(io.BytesIO(pickle.dumps(array, protocol))).load()]
    if protocol == 2:
        torch.save({'x': array}, tmp_path / 'a.pth')
        found.append(read_safely(tmp_path / 'a.pth', name='a')['x'])
    for other in found:
        np.testing.assert_array_equal(other, array)
        # numpy swaps bytes of another byte order when it reads them
        assert other.dtype.newbyteorder('=') == array.dtype.newbyteorder('=') and np.isfortran(other) == np.isfortran(
            array
        )


def test_what_is_read_is_stored_as_an_array_of_numpy(tmp_path):
    torch.save({'x': np.arange(3)}, tmp_path / 'a.pth')
    found = read_safely(tmp_path / 'a.pth', name='a')['x']
    for protocol in (2, 4, 5):
        assert type(pickle.loads(pickle.dumps(found, protocol))) is np.ndarray
    assert copy.deepcopy(found).tolist() == [0, 1, 2] and (found + 1).tolist() == [1, 2, 3]
    np.testing.assert_array_equal(np.append(found, 5), [0, 1, 2, 5])
