import pytest

from mmmaskformer.core import fast_paths
from mmmaskformer.core.fast_paths import ENVIRONMENT_VARIABLE, FAST_PATHS, is_fast, set_fast_paths

pytestmark = pytest.mark.usefixtures('restored_fast_paths')


def test_all_are_on_unless_the_environment_says_otherwise():
    assert fast_paths._initial('') == dict.fromkeys(FAST_PATHS, True)
    assert fast_paths._initial('all') == dict.fromkeys(FAST_PATHS, False)
    first, *others = FAST_PATHS
    assert fast_paths._initial(f' {first}, ') == {first: False, **dict.fromkeys(others, True)}


def test_switches_are_set_and_restored():
    set_fast_paths(True)
    before = set_fast_paths(False, triton_kernels=True)
    assert before == dict.fromkeys(FAST_PATHS, True)
    assert [name for name in FAST_PATHS if is_fast(name)] == ['triton_kernels']
    set_fast_paths(**before)
    assert all(is_fast(name) for name in FAST_PATHS)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"set_fast_paths: there is no fast path 'warp'; expected one or more of \["):
        set_fast_paths(warp=True)
    with pytest.raises(ValueError, match=f"{ENVIRONMENT_VARIABLE}.*there is no fast path 'warp'"):
        fast_paths._initial('triton_kernels,warp')


@pytest.mark.parametrize('wrong', [dict(enabled='no'), dict(one_pass_loss=None), dict(one_pass_loss=0)])
def test_a_switch_is_true_or_false(wrong):
    before = set_fast_paths()
    with pytest.raises(ValueError, match='expected True or False'):
        set_fast_paths(**wrong)
    assert set_fast_paths() == before
