"""Metafiles and the tables generated from them are complete, up to date, and agree with the configs."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from helpers.fresh import ROOT
from mmengine.config import Config
from mmengine.fileio import load

from mmmaskformer.apis.audit import published, shipped_configs
from mmmaskformer.apis.settings_of_config import settings_of
from mmmaskformer.datasets.converters.recipes import RECIPES

CONFIGS = ROOT / 'configs'


def load_tool():
    spec = importlib.util.spec_from_file_location('model_tables', ROOT / 'tools/model_tables.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()
INDEX = load(ROOT / 'model-index.yml')['Import']
READMES = [path.read_text() for path in CONFIGS.glob('*/README.md')]
MODELS = [model for file in INDEX for model in load(ROOT / file).get('Models', [])]


def test_every_family_has_a_metafile_and_a_readme_with_its_table():
    folders = {path.parent for path in shipped_configs()} - {CONFIGS}
    assert {ROOT / file for file in INDEX} == {folder / 'metafile.yml' for folder in [CONFIGS, *folders]}
    assert all((folder / 'README.md').is_file() for folder in folders)


def test_every_config_is_in_one_metafile_beside_it():
    assert sorted(model['Config'] for model in MODELS) == sorted(
        path.relative_to(CONFIGS.parent).as_posix() for path in shipped_configs()
    )
    for file in INDEX:
        for model in load(ROOT / file)['Models']:
            path = ROOT / model['Config']
            assert path.parent == (ROOT / file).parent and path.stem == model['Name']


def test_tables_are_up_to_date(capsys):
    assert tool.main(['--check']) == 0, capsys.readouterr().out


@pytest.mark.parametrize('name', RECIPES)
def test_readme_prepares_trains_and_tests(name):
    """The commands of a family name its dataset and an existing config that reads it."""
    [text] = [text for text in READMES if f'mmmaskformer data prepare {name}\n' in text]
    assert f'docs/datasets.md#{name})' in text
    for action in ('train', 'test'):
        [(host, config)] = re.findall(rf'^mim {action} (\S+) (\S+)', text, re.M)
        cfg = Config.fromfile(ROOT / config)
        assert host == {'mmseg': 'mmsegmentation', 'mmdet': 'mmdet'}[cfg.default_scope]
        assert cfg.train_dataloader.dataset.data_root == RECIPES[name].root
        assert ('--tta' in text) == (host == 'mmsegmentation')


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_metafile_agrees_with_the_config(model):
    metadata, settings = model['Metadata'], settings_of(Config.fromfile(ROOT / model['Config']))
    assert (metadata['Batch Size'], metadata['Iterations']) == (settings['batch'], settings['iterations'])
    if 'Crop Size' in metadata:
        assert f'crop {metadata["Crop Size"]}' in ' '.join(settings['augmentation'])
    entry = published()['models'].get(model['Name'])
    if entry is None:
        assert 'Zoo Name' not in metadata and 'FLOPs of the paper' not in metadata
        return
    assert metadata['Parameters'] == f'{entry["parameters"] / 1e6:.1f} M'
    if 'FLOPs' in entry:
        ours, printed = (float(metadata[key].removesuffix(' G')) for key in ('FLOPs', 'FLOPs of the paper'))
        assert f'{printed:.0f}G' == entry['FLOPs'] and ours == pytest.approx(printed, rel=0.02)
        assert metadata['Parameters of the paper'] == entry['printed parameters'].replace('M', ' M')
    if 'Zoo Name' in metadata:
        assert Path(metadata['Zoo Name']).name == Path(entry['config']).stem


def test_an_outdated_table_is_named_and_rewritten(tmp_path, capsys):
    shutil.copytree(CONFIGS / 'mapillary', tmp_path / 'mapillary')
    readme = tmp_path / 'mapillary/README.md'
    fresh = readme.read_text()
    metafile = tmp_path / 'mapillary/metafile.yml'
    metafile.write_text(metafile.read_text().replace('53.1', '99.9'))
    assert tool.main(['--check', '--configs', str(tmp_path)]) == 1
    assert f'{readme}: out of date. Fix: run python tools/model_tables.py' in capsys.readouterr().out
    assert readme.read_text() == fresh
    assert tool.main(['--configs', str(tmp_path)]) == 0
    assert readme.read_text() == fresh.replace('53.1', '99.9')
    readme.write_text('# No place\n')
    with pytest.raises(ValueError, match='found no place for the table'):
        tool.main(['--configs', str(tmp_path)])
