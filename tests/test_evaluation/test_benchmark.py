import json

import pytest
from helpers.fresh import ROOT
from helpers.runs import run_script


def test_benchmark_of_panoptic_quality_runs_and_agrees(tmp_path):
    script, file = str(ROOT / 'tools/benchmark/panoptic_quality.py'), tmp_path / 'pq.json'
    done = run_script(script, '--images', '2', '--size', '60', '81', '--rounds', '1', '--json', str(file), cwd=tmp_path)
    report = json.loads(file.read_text())
    assert report['size'] == [60, 81] and report['segments_per_image'] > 5
    for way in ('evaluator', 'files', 'memory'):
        row = report[way]
        assert row['times_faster'] == pytest.approx(row['panopticapi_ms'] / row['ours_ms'])
        assert row['largest_difference'] <= 1e-12
        assert way in done.stdout
