import json

from helpers import runs

TOOL = str(runs.ROOT / 'tools/benchmark/train_step.py')
SMALL = ['--crop', '64', '--queries', '12', '--layers', '2', '--classes', '12', '--rounds', '1', '--threads', '1']


def test_the_hosts_heads_agree_with_ours_and_are_measured(tmp_path):
    arguments = ['--peers', 'mmdet', 'mmseg', '--sweep', 'segments', '2', '3', '--json', 'a.json', '--plot', 'a.png']
    out = runs.run_script(TOOL, *SMALL, *arguments, cwd=tmp_path).stdout
    assert 'backward of pixel decoder' in out and 'largest difference to mmseg, float32 gradients' in out
    reports = json.loads((tmp_path / 'a.json').read_text())
    assert [report['case']['segments'] for report in reports] == [2, 3]
    for report in reports:
        assert set(report['seconds']) == {'ours', 'mmdet', 'mmseg'}
        for stages in report['seconds'].values():
            parts = [seconds for stage, seconds in stages.items() if stage not in ('step', 'criterion with backward')]
            assert min(parts) > 0 and abs(sum(parts) - stages['step']) < 1e-9
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_peers_that_are_not_installed_are_named(tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(
        'import importlib.util as u\nfind = u.find_spec\n'
        "u.find_spec = lambda name, *a: None if name == 'transformers' else find(name, *a)\n"
    )
    out = runs.run(TOOL, *SMALL, '--peers', 'transformers', cwd=tmp_path, pythonpath=tmp_path).stdout
    assert out.startswith('transformers: not installed\n') and 'ours' in out
