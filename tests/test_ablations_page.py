"""Every option and every config of docs/ablations.md."""

import argparse
import re
import shlex

import pytest
from helpers.fresh import ROOT
from mmengine.config import Config, DictAction

from mmmaskformer.apis.model_size import build_on_meta

PAGE = (ROOT / 'docs/ablations.md').read_text(encoding='utf-8')
BASE = 'configs/ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'
OPTIONS = re.findall(r'^\| (.+?) \| `(model\..+?)` \|$', PAGE, re.MULTILINE)


def test_the_page_has_options():
    assert len(OPTIONS) >= 13 and BASE in PAGE


@pytest.mark.parametrize('what, options', OPTIONS, ids=[what for what, _ in OPTIONS])
def test_options_build(what, options):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)  # as the hosts' scripts do
    config = Config.fromfile(ROOT / BASE)
    before = config.model.decode_head.copy()
    config.merge_from_dict(parser.parse_args(['--cfg-options', *shlex.split(options)]).cfg_options)
    assert config.model.decode_head != before
    build_on_meta(config)


def test_configs_are_there():
    named = re.findall(r'`(configs/[^`]+\.py)`', PAGE)
    assert len(named) >= 10 and all((ROOT / name).is_file() for name in named)
