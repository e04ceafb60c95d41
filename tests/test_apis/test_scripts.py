import pytest

from mmmaskformer.apis.scripts import find_script, host_script


@pytest.mark.parametrize('host', ['mmseg', 'mmdet'])
@pytest.mark.parametrize('name', ['train.py', 'test.py'])
def test_scripts_of_the_installed_hosts_are_found(host, name):
    assert 'Runner' in host_script(host, name).read_text()


def test_other_scopes_are_refused():
    with pytest.raises(ValueError, match="default_scope=None: expected 'mmseg' or 'mmdet'"):
        host_script(None, 'train.py')


def test_a_host_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr('mmmaskformer.apis.scripts.find_spec', lambda name: None)
    with pytest.raises(ValueError, match='mmseg is not installed. Fix: pip install mmsegmentation'):
        host_script('mmseg', 'train.py')


def test_config_and_checkpoint_the_wrong_way_round():
    with pytest.raises(
        ValueError, match=r'iter_1\.pth: found this as the first .* Fix: mmmaskformer test CONFIG CHECK'
    ):
        find_script('test.py', ['iter_1.pth', __file__])


def test_a_missing_base_is_reported_with_the_config(tmp_path):
    (tmp_path / 'my.py').write_text("_base_ = './no_base.py'")
    with pytest.raises(FileNotFoundError, match=r'config .*my\.py: .* names .*no_base\.py, which does not exist'):
        find_script('train.py', [str(tmp_path / 'my.py')])


def test_a_config_given_by_name_is_reported_with_its_path():
    name = 'maskformer_tiny_1xb8-800_scenes.py'
    expected = rf'no such file. Fix: pass the path of a config: /.*configs/scenes/{name}$'
    with pytest.raises(FileNotFoundError, match=expected):
        find_script('train.py', [name])
    with pytest.raises(FileNotFoundError, match='config nowhere.py: no such file. Fix: pass .*: configs/….py'):
        find_script('train.py', ['nowhere.py'])
