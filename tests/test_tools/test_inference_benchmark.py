import json

import pytest
from helpers import runs

TOOL = str(runs.ROOT / 'tools/benchmark/inference.py')
SMALL = ['--classes', '9', '--size', '60', '90', '--rounds', '1', '--threads', '1']


@pytest.mark.parametrize('task, peer', [('semantic', 'mmseg'), ('panoptic', 'mmdet')])
def test_the_hosts_head_agrees_with_ours_and_is_measured(task, peer, tmp_path):
    arguments = ['--original', '75', '113', '--batch', '2', '--json', 'a.json', '--plot', 'a.png']
    out = runs.run_script(TOOL, task, *SMALL, *arguments, cwd=tmp_path).stdout
    assert 'post-processing' in out and 'evaluation: ' in out
    report = json.loads((tmp_path / 'a.json').read_text())
    assert report['share of pixels that differ'] == 0
    assert set(report['seconds']) == {'ours', peer}
    for head, stages in report['seconds'].items():
        parts = [seconds for stage, seconds in stages.items() if stage != 'step']
        assert min(parts) > 0 and abs(sum(parts) - stages['step']) < 1e-9
        assert report['images per second'][head] == 2 / stages['step']
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')
