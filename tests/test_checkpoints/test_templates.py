"""Name templates with indices."""

import pytest

from mmmaskformer.checkpoints.templates import Template

CASES = [
    ('layers.{d}.norm{c1}.{wb}', 'layers.11.norm2.bias', {'d': 11, 'c': 1, 'wb': 'bias'}),
    ('res{s2}.{b}.conv{c1}.norm.{bn}', 'res5.2.conv3.norm.running_var', {'s': 3, 'b': 2, 'c': 2, 'bn': 'running_var'}),
    ('fpn.layers.{r}.block.0.weight', 'fpn.layers.2.block.0.weight', {'l': 0}),
    ('criterion.empty_weight', 'criterion.empty_weight', {}),
]


@pytest.mark.parametrize('text, name, indices', CASES)
def test_a_name_is_parsed_and_filled_in(text, name, indices):
    template = Template(text)
    assert template.match(name, levels=3) == (indices, 0)
    assert template.fill(indices, levels=3) == (name,)


def test_parts_of_one_tensor_share_their_indices():
    template = Template('layers.{d}.{q,k,v}_proj.{wb}')
    names = tuple(f'layers.4.{part}_proj.weight' for part in 'qkv')
    assert template.fill({'d': 4, 'wb': 'weight'}) == names
    assert [template.match(name) for name in names] == [({'d': 4, 'wb': 'weight'}, part) for part in range(3)]


OTHERS = [
    'layers.x.norm1.bias',
    'layers.1.norm1.bias.x',
    'xlayers.1.norm1.bias',
    'layersA1.norm1.bias',
    'layers.1.norm1.running_mean',
]


@pytest.mark.parametrize('name', OTHERS)
def test_other_names_do_not_fit(name):
    assert Template('layers.{d}.norm{c1}.{wb}').match(name) is None
