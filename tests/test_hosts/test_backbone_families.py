"""The head with the backbones of MMSegmentation's config families, of MMDetection and of timm.

Each model trains for one step and validates an image of odd size; the result must be the documented one.
"""

import importlib.util
import logging

import pytest
from helpers.fresh import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

PAGE = (ROOT / 'docs/backbones.md').read_text(encoding='utf-8')
MMDET = [
    'ResNeXt',
    'Res2Net',
    'RegNet',
    'HRNet',
    'SwinTransformer',
    'PyramidVisionTransformer',
    'MobileNetV2',
    'EfficientNet',
    'CSPDarknet',
    'ResNet + FPN',
]
TIMM = [
    'resnet10t',
    'resnext26ts',
    'regnetx_002',
    'mobilenetv3_small_050',
    'mobilenetv4_conv_small_035',
    'tf_efficientnet_lite0',
    'convnext_atto',
    'poolformer_s12',
    'pvt_v2_b0',
    'twins_svt_small',
    'swin_tiny_patch4_window7_224',
    'swinv2_tiny_window8_256',
    'vit_small_patch14_dinov2',
    'vit_small_patch16_dinov3',
    'eva02_tiny_patch14_224',
]


def load_tool():
    spec = importlib.util.spec_from_file_location('check_backbones', ROOT / 'tools/check_backbones.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()
RESULTS = {}
"""Cases by backbone and neck, since many families share both."""


def check(case):
    key = repr((case.backbone, case.neck))
    if key not in RESULTS:
        RESULTS[key] = tool.check(case)
    return RESULTS[key]


@pytest.fixture(autouse=True)
def quiet():
    """Hides the hosts' warnings about backbones without weights."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def printed_rows(group: str) -> dict[str, list[list[str]]]:
    """Cells of the rows of a table, by each name in the first column."""
    lines = PAGE.split(f'<!-- {group} -->\n')[1].split(f'<!-- end of {group} -->')[0].splitlines()[2:]
    rows = {}
    for line in lines:
        first, *cells = (cell.strip() for cell in line.strip('|').split('|'))
        for name in first.split(', '):
            rows.setdefault(name, []).append(cells)
    return rows


def assert_printed(case, result) -> None:
    *columns, outcome = tool.cells(case, result)
    expected = [*columns, outcome.split(' (')[0]]
    printed = [[*cells[:-1], cells[-1].split(' (')[0]] for cells in printed_rows(case.group)[case.name]]
    assert expected in printed, f'{case.name}: {[*columns, outcome]}, but docs/backbones.md has {printed}'


@pytest.mark.parametrize('family', [*tool.MMSEG_CONFIGS, *tool.PUBLISHED])
@pytest.mark.filterwarnings('ignore')
def test_families_of_mmsegmentation(family):
    for case in (case for case in tool.cases('mmseg', family) if case.name == family):
        result = check(case)
        if case.backbone['type'].startswith('mmpretrain.') and importlib.util.find_spec('mmpretrain') is None:
            assert 'mmpretrain' in result.reason
        else:
            assert_printed(case, result)


def test_every_family_is_in_the_table():
    folders = {path.name for path in tool.config_folder().iterdir() if path.is_dir()} - {'_base_'}
    assert folders == set(tool.MMSEG_CONFIGS) == set(printed_rows('mmseg')) - set(tool.PUBLISHED)


@pytest.mark.parametrize('name', MMDET)
@pytest.mark.filterwarnings('ignore')
def test_backbones_of_mmdetection(name):
    case = next(case for case in tool.cases('mmdet') if case.name == name)
    assert_printed(case, tool.check(case))


@pytest.mark.parametrize('name', TIMM)
@pytest.mark.filterwarnings('ignore')
def test_backbones_of_timm(name):
    case = next(case for case in tool.cases('timm') if case.name == name)
    result = tool.check(case)
    assert result.validation
    assert_printed(case, result)


def test_the_printed_tables_are_complete():
    for group in ('mmdet', 'timm'):
        assert {case.name for case in tool.cases(group)} == set(printed_rows(group))


def test_the_table_shows_failures():
    case = tool.Case('mmseg', 'none', dict(type='ResNet', depth=19), None)
    assert tool.check(case).reason == "KeyError: 'invalid depth 19 for resnet'"
    assert tool.cells(case, tool.check(case))[-1].startswith('no (KeyError')


def test_the_command_prints_the_row_of_the_page(capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['check_backbones.py', '--group', 'mmdet', '--only', 'Hourglass'])
    tool.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 1 and rows[0] in PAGE
    monkeypatch.setattr('sys.argv', ['check_backbones.py', '--only', 'vit', '--write', 'page.md'])
    with pytest.raises(SystemExit):
        tool.main()
    assert '--write replaces whole tables; leave out --only' in capsys.readouterr().err


def test_tables_are_written_in_place(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- timm -->\nold\n<!-- end of timm -->\nb\n')
    tool.write(page, 'timm', ['| new |'])
    assert page.read_text().splitlines()[1:5] == [
        '<!-- timm -->',
        '| model | settings | neck | channels | strides | validation |',
        '|---|---|---|---|---|---|',
        '| new |',
    ]
    assert page.read_text().endswith('<!-- end of timm -->\nb\n')


@pytest.mark.parametrize('block', [1, 2])
@pytest.mark.filterwarnings('ignore')
def test_the_configs_that_the_page_prints(block, tmp_path):
    text = PAGE.split('```python\n')[block].split('```')[0].replace('./mmmaskformer', str(ROOT))
    (tmp_path / 'config.py').write_text(text)
    config = Config.fromfile(tmp_path / 'config.py')
    init_default_scope('mmseg')
    model = MODELS.build(config.model)
    assert type(model.decode_head).__module__ == 'mmmaskformer.heads.maskformer_head'
    assert model.decode_head.in_channels == [32, 64, 160, 256]
    assert model.decode_head.feature_strides == [4, 8, 16, 32]
