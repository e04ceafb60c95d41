"""Supported versions are read from setup.cfg or from the metadata of an installed package."""

from email.message import Message

import pytest
from helpers.fresh import ROOT
from setuptools.config.setupcfg import read_configuration

from mmmaskformer.requirements import Requirement, from_metadata, from_setup_file, parse, requirements


def test_setup_file_is_read_as_setuptools_reads_it():
    options = read_configuration(ROOT / 'setup.cfg')['options']
    declared = [(line, None) for line in options['install_requires']]
    declared += [(line, extra) for extra, lines in options['extras_require'].items() for line in lines]
    found = from_setup_file(ROOT / 'setup.cfg')
    assert {name for name in found if name != 'python'} == {parse(line).name for line, _ in declared}
    assert all(parse(line, found[parse(line).name].extra) == found[parse(line).name] for line, _ in declared)
    assert found['python'] == Requirement('python', '3.10', '3.14', None)
    assert found['mmcv-lite'].extra == 'lite' and found['torch'].extra is None


def test_metadata_of_an_installed_package_is_equal():
    fields = Message()
    fields['Requires-Python'] = '<3.14,>=3.10'
    for name, requirement in requirements().items():
        if name != 'python':
            limits = ','.join(str(requirement)[len(name) :].split(',')[::-1])  # pip writes them in this order
            marker = f"; extra == '{requirement.extra}'" if requirement.extra else ''
            fields['Requires-Dist'] = f'{name}{limits}{marker}'
    assert from_metadata(fields) == requirements()


@pytest.mark.parametrize('text', ['mmengine>=0.10,<0.11', 'torch>=2.1', 'click<8.3.1', 'ftfy'])
def test_a_requirement_is_written_in_pips_syntax(text):
    assert str(parse(text)) == text


def test_other_operators_are_refused():
    with pytest.raises(ValueError, match=r"requirement 'a~=1.0': expected NAME, NAME>=A, NAME<B or NAME>=A,<B"):
        parse('a~=1.0')
