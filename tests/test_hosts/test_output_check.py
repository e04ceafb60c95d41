"""Results that cannot be written stop a run before it starts, also in the hosts' own scripts."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.host_tools import run_tool
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.registry import METRICS, init_default_scope
from mmengine.runner import BaseLoop

import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed
from mmmaskformer.hosts.output_check import CheckOutputsHook


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'folder.pkl').mkdir()
    (tmp_path / 'file').write_text('old')
    (tmp_path / 'dangling.csv').symlink_to('nothing')
    os.mkfifo(tmp_path / 'a.segm.json')
    return tmp_path


METRICS_AND_FAULTS = {
    'DumpResults.out_file_path': (lambda at: DumpResults(f'{at}/folder.pkl'), 'found a folder, expected a file'),
    'SemanticMetric.output_dir': (
        lambda at: METRICS.build(dict(type='mmmaskformer.SemanticMetric', output_dir=f'{at}/file')),
        'found a file, expected a folder',
    ),
    'PanopticMetric.image_table': (
        lambda at: METRICS.build(dict(type='mmmaskformer.PanopticMetric', image_table=f'{at}/dangling.csv')),
        'found a broken symbolic link, expected a file',
    ),
    'PanopticMetric.outfile_prefix': (
        lambda at: METRICS.build(dict(type='mmmaskformer.PanopticMetric', outfile_prefix=f'{at}/file/below')),
        'file is a file, expected a folder',
    ),
    'CocoMetric.outfile_prefix': (
        lambda at: METRICS.build(dict(type='mmdet.CocoMetric', outfile_prefix=f'{at}/a')),
        'found a pipe, expected a file',
    ),
}


def runner(metric):
    class Loop(BaseLoop):
        evaluator = Evaluator(metric)

        def __init__(self):
            pass

        def run(self):
            pass

    return SimpleNamespace(_val_loop=None, _test_loop=Loop())


@pytest.mark.parametrize('key', METRICS_AND_FAULTS)
@pytest.mark.parametrize('beside', [False, True])
def test_outputs_that_cannot_be_written(folder, key, beside):
    init_default_scope('mmdet')
    build, fault = METRICS_AND_FAULTS[key]
    metric = build(folder)
    if beside:  # of another metric
        metric = METRICS.build(dict(type='mmmaskformer.SemanticMetric', also=[metric]))
    with pytest.raises(OSError, match=f'{key}: .*{fault}'):
        CheckOutputsHook().before_run(runner(metric))


def test_outputs_that_can_be_written(folder):
    init_default_scope('mmdet')
    also = [
        dict(type='mmmaskformer.PanopticMetric', outfile_prefix=f'{folder}/new/b', image_table=f'{folder}/file'),
        dict(type='mmdet.CocoMetric', outfile_prefix='s3://bucket/a'),
    ]
    metric = METRICS.build(dict(type='mmmaskformer.SemanticMetric', output_dir=f'{folder}/folder.pkl', also=also))
    CheckOutputsHook().before_run(runner(metric))
    assert not Path(folder / 'new').exists()


def test_a_folder_to_draw_into(folder):
    hook = SimpleNamespace(draw=True, test_out_dir=str(folder / 'file'))
    nothing = SimpleNamespace(hooks=[hook], work_dir='work', timestamp='now', _val_loop=None, _test_loop=None)
    with pytest.raises(FileExistsError, match='test_out_dir: .*file: found a file, expected a folder'):
        CheckOutputsHook().before_run(nothing)
    hook.draw = False
    CheckOutputsHook().before_run(nothing)


@pytest.mark.parametrize(
    ('host', 'kind', 'out', 'message'),
    [
        ('mmdet', 'panoptic', 'folder.pkl', r'DumpDetResults.out_file_path: folder.pkl: found a folder'),
        ('mmseg', 'semantic', 'file', r'SemanticMetric.output_dir: file: found a file'),
    ],
)
def test_out_option_of_the_hosts_scripts(kinds, folder, host, kind, out, message):
    config, checkpoint = kinds[kind]
    printed = run_tool(host, 'test.py', config, checkpoint, '--out', out, cwd=folder, check=False)
    assert f'FileExistsError: {message}'.replace('\\', '') in printed
    assert 'Load checkpoint from' not in printed and 'Epoch(test)' not in printed
    assert (folder / 'file').read_text() == 'old' and (folder / 'folder.pkl').is_dir()
