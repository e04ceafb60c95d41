"""Configs in checkpoints are read, but never executed."""

from mmengine.config import Config

from mmmaskformer.checkpoints.config_text import lookup, read_config_text


def test_configs_written_by_mmengine_are_read():
    values = dict(
        model=dict(backbone=dict(depth=50, strides=(1, 2), lr=-1e-3), heads=[dict(type='A'), None], flag=True),
        names=dict({'a.b': 1, 'c d': 'x'}),
        note="it's",
    )
    assert read_config_text(Config(values).pretty_text) == values
    assert lookup(read_config_text('a = dict(b=dict(c=1))'), 'a', 'b', 'c') == 1
    assert lookup(dict(a=[1]), 'a', 'b') is None


def test_code_is_not_run(tmp_path):
    marker = tmp_path / 'executed'
    call = f"__import__('os').mkdir({str(marker)!r})"
    text = f'x = {call}\n{call}\nmodel = dict(a={call}, b=2, **{call})\ny = [i for i in range(9)]\nz = 3'
    assert read_config_text(text) == dict(x=None, model=dict(a=None, b=2), y=None, z=3)
    assert not marker.exists()
    assert read_config_text('no python at all (') == {} and read_config_text('(' * 10000) == {}
