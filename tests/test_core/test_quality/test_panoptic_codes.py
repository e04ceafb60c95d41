import numpy as np
import pytest

from mmmaskformer.core.quality.panoptic_codes import INSTANCE_OFFSET, decode_panoptic


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('dtype', [np.int32, np.int64])
def test_decode_segment_by_segment(seed, dtype):
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 3, 5, 9, 10, 255, 1002, 2002, 1009, 7010, 123004], (6, 7)).astype(dtype)
    segments, labels = decode_panoptic(codes, 9)
    expected = sorted(code for code in set(codes.ravel().tolist()) if code % 1000 < 9)
    assert labels.tolist() == [code % 1000 for code in expected]
    assert segments.dtype == np.int32
    for number, code in enumerate(expected, 1):
        assert np.array_equal(segments == number, codes == code)
    assert np.array_equal(segments == 0, codes % 1000 >= 9)


def test_same_offset_as_mmdet():
    import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed

    from mmdet.evaluation.functional import INSTANCE_OFFSET as THEIRS  # isort: skip

    assert INSTANCE_OFFSET == THEIRS


def test_edges():
    segments, labels = decode_panoptic(np.full((2, 3), 4), 4)
    assert not segments.any() and not labels.size
    segments, labels = decode_panoptic(np.zeros((0, 3), int), 4)
    assert segments.shape == (0, 3) and not labels.size
    with pytest.raises(ValueError, match='found -2, expected label'):
        decode_panoptic(np.array([[1, -2]]), 4)
