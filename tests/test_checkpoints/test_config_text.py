"""Configs in checkpoints are read, but never executed."""

import pytest
from mmengine.config import Config

from mmmaskformer.checkpoints.config_text import code_in_config, lookup, read_config_text, remove_code


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


def test_configs_written_by_mmengine_contain_no_code():
    values = dict(a=[-1.5, (1, 'x')], b=dict({'c.d': None, 'e f': {1, 2}}), low=float('-inf'), note='import os')
    assert code_in_config(Config(values).pretty_text) is None
    assert code_in_config('') is None and code_in_config("a = float('nan')") is None


@pytest.mark.parametrize(
    'text, code',
    [
        ("a = 1\nb = __import__('os').getcwd()", "line 2: __import__('os').getcwd()"),
        ('import os', 'line 1: import os'),
        ('a = dict(b=[c for c in d])', 'line 1: [c for c in d]'),
        ('a = (lambda: 1)()', 'line 1: (lambda: 1)()'),
        ('def f(): pass', 'line 1: def f():\n    pass'),
        ("a = f'{b}'", "line 1: f'{b}'"),
        ('_base_ = "elsewhere.py"', 'line 1: _base_'),
        ('a = {{ $NAME: exit() }}', '{{'),
        ("a = '{{ fileDirname }}'", '{{'),
        ('a = (', "'(' was never closed (<unknown>, line 1)"),
    ],
)
def test_code_is_found_and_removed(text, code):
    assert code_in_config(text) == code
    checkpoint = dict(meta=dict(cfg=text, config='a = 1'), message_hub=dict(runtime_info=dict(cfg=text)))
    assert remove_code(checkpoint) == [f'meta.cfg, {code}', f'message_hub.runtime_info.cfg, {code}']
    assert checkpoint == dict(meta=dict(config='a = 1'), message_hub=dict(runtime_info={}))


@pytest.mark.parametrize('checkpoint', [[], dict(), dict(meta=None), dict(meta=dict(cfg=3)), dict(message_hub=[])])
def test_other_contents_are_not_changed(checkpoint):
    assert remove_code(checkpoint) == []
