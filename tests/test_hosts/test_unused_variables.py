"""Variables that a config overrides after its base has used them."""

import re

import pytest
from helpers.runs import ROOT
from mmengine.config import Config

from mmmaskformer.hosts import config_check
from mmmaskformer.hosts.config_check import CheckConfigHook
from mmmaskformer.hosts.unused_variables import unused_variables

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
PANOPTIC = ROOT / 'configs/scenes/maskformer_tiny_1xb4-2600_scenes-panoptic.py'
HEAD = 'maskformer_tiny_1xb4-2600_scenes-panoptic.py'
WITHOUT_EFFECT = {
    'num_classes = 4': (HEAD, 'set model.panoptic_head.num_classes'),
    'things = [0]': (HEAD, 'set model.panoptic_head.things'),
    'max_iters = 7': (HEAD, 'set train_cfg.max_iters'),
    'crop_size = (64, 64)': ('scenes_panoptic.py', r'set train_dataloader.dataset.pipeline.\d.crop_size'),
    "data = dict(data_root='elsewhere')": ('scenes_panoptic.py', 'set the entries that scenes_panoptic.py derives'),
}
WITH_EFFECT = [
    'num_classes = 4\nmodel = dict(panoptic_head=dict(num_classes=num_classes))',
    'num_classes = 9',
    'crop_size = tuple(2 * edge for edge in _base_.crop_size)\nother = crop_size',
    'my_variable = 3',
    "work_dir = 'elsewhere'",
    'train_cfg = dict(max_iters=7)',
]


def messages(folder, text: str, base=PANOPTIC) -> list[str]:
    file = folder / 'own.py'
    file.write_text(f'_base_ = {str(base)!r}\n{text}\n')
    return unused_variables(file, Config.fromfile(file))


@pytest.mark.parametrize('text', WITHOUT_EFFECT)
def test_a_variable_that_its_base_has_used_is_reported(tmp_path, text):
    user, fix = WITHOUT_EFFECT[text]
    [message] = messages(tmp_path, text)
    assert message.startswith(f'config: own.py sets {text.split()[0]}, but {user}, from which it inherits, has already')
    assert re.search(f'Fix: {fix}.*, or remove it', message)


@pytest.mark.parametrize('text', WITH_EFFECT)
def test_what_changes_something_is_not(tmp_path, text):
    assert messages(tmp_path, text) == []


def test_a_file_below_may_use_it(tmp_path):
    (tmp_path / 'middle.py').write_text(f'_base_ = [{str(PANOPTIC)!r}]\nnum_classes = 4\n')
    use = 'model = dict(panoptic_head=dict(num_classes=_base_.num_classes))'
    assert messages(tmp_path, use, tmp_path / 'middle.py') == []
    [message] = messages(tmp_path, '', tmp_path / 'middle.py')
    assert message.startswith('config: middle.py sets num_classes')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_no_shipped_config_has_one(path):
    assert unused_variables(path, Config.fromfile(path)) == []


def test_other_formats_and_packages_are_not_followed(tmp_path):
    (tmp_path / 'a.json').write_text('{"num_classes": 4}')
    assert unused_variables(tmp_path / 'a.json', {}) == unused_variables(tmp_path / 'nowhere.py', {}) == []
    (tmp_path / 'own.py').write_text("_base_ = ['mmdet::_base_/default_runtime.py', 'a.json']\nlog_level = 'INFO'\n")
    assert unused_variables(tmp_path / 'own.py', {}) == []


def test_the_hook_reports_them(tmp_path, monkeypatch):
    printed = []
    monkeypatch.setattr(config_check, 'print_log', lambda text, **_: printed.append(text))
    (tmp_path / 'own.py').write_text(f'_base_ = {str(PANOPTIC)!r}\nthings = [0]\n')
    runner = type('Runner', (), dict(cfg=Config.fromfile(tmp_path / 'own.py')))
    CheckConfigHook().before_run(runner)
    assert len(printed) == 1 and printed[0].startswith('config: own.py sets things, but')
    runner.cfg = Config(dict(model=dict()))  # made in Python
    CheckConfigHook().before_run(runner)
    assert len(printed) == 1
