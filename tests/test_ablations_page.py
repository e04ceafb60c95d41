"""Every option and config in docs/ablations.md works."""

import argparse
import importlib
import re
import shlex

import pytest
from helpers.fresh import ROOT
from mmengine.config import Config, DictAction

from mmmaskformer.apis.cli import parser_of
from mmmaskformer.apis.model_size import build_on_meta

PAGE = (ROOT / 'docs/ablations.md').read_text(encoding='utf-8')
BASE = 'configs/ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
OPTIONS = re.findall(r'^\| (.+?) \| `(model\..+?)` \|$', PAGE, re.MULTILINE)


def test_the_page_has_options():
    assert len(OPTIONS) >= 13 and BASE in PAGE


@pytest.mark.parametrize('what, options', OPTIONS, ids=[what for what, _ in OPTIONS])
def test_options_build(what, options):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)  # as in the hosts' scripts
    config = Config.fromfile(ROOT / BASE)
    before = config.model.decode_head.copy()
    config.merge_from_dict(parser.parse_args(['--cfg-options', *shlex.split(options)]).cfg_options)
    assert config.model.decode_head != before
    build_on_meta(config)


def test_configs_are_there():
    named = re.findall(r'`(configs/[^`]+\.py)`', PAGE)
    assert len(named) >= 10 and all((ROOT / name).is_file() for name in named)


def test_every_table_of_the_paper_is_there():
    """Checks the links, anchors and commands of each row."""
    section = PAGE.split('## Where each table of the paper is\n')[1].split('\n## ')[0]
    rows = [line.split(' | ')[0].removeprefix('| ') for line in section.splitlines() if line.startswith('| ')][1:]
    assert rows == ['1', '2', '3', '4', 'number of queries', '5', 'I', 'II', 'III', 'IV', 'V', 'VI', 'VII', 'VIII']
    headings = {line[3:].lower().replace(' ', '-') for line in PAGE.splitlines() if line.startswith('## ')}
    for target in re.findall(r'\]\(([^)]+)\)', section):
        assert target[1:] in headings if target.startswith('#') else (ROOT / 'docs' / target).is_file(), target
    for words in (shlex.split(command) for command in re.findall(r'`mmmaskformer ([^`]+)`', section)):
        if len(words) > 2:
            parser_of(words[0], importlib.import_module(f'mmmaskformer.apis.cli.{words[0]}')).parse_args(words[1:])
