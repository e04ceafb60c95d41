"""Configs inherited by name, ``_base_ = 'mmmaskformer::…'``, are equivalent to configs inherited by path.

mmengine builds parts of another package in the scope of that package, where the hosts' names are not found without a
prefix.

mmengine builds what comes from another package in the scope of that package, where names of the hosts without a prefix
are not found.
"""

from collections.abc import Iterator

import mmengine.registry
import pytest
from helpers.fresh import ROOT
from mmengine.config import Config
from mmengine.registry import Registry

import mmmaskformer.registry

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
ROOTS = [root for root in vars(mmengine.registry).values() if isinstance(root, Registry) and root.parent is None]


def names(value) -> Iterator[str]:
    """Every ``type`` in a config."""
    if isinstance(value, dict):
        if isinstance(value.get('type'), str):
            yield value['type']
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from names(item)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_names_without_prefix_mean_the_same_everywhere(path):
    config = Config.fromfile(path)
    unprefixed = {name for name in names(config._cfg_dict.to_dict()) if '.' not in name}
    assert 'IterBasedTrainLoop' in unprefixed
    for name in unprefixed:
        ours = [root.get(f'mmmaskformer.{name}') or root.get(name) for root in ROOTS]
        hosts = [root.get(f'{config.default_scope}.{name}') or root.get(name) for root in ROOTS]
        assert any(ours), f'{name} is not found in the scope of mmmaskformer: write {config.default_scope}.{name}'
        assert ours == hosts, f'{name} means {ours} here and {hosts} in {config.default_scope}'


def test_there_is_a_registry_of_each_kind():
    assert all(mmmaskformer.registry.SCOPE in root.children for root in ROOTS)
