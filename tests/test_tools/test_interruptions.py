"""The tool that kills training runs, and its report on the resumed runs."""

import re

from helpers import runs


def test_killed_runs_of_mmsegmentations_script_equal_the_uninterrupted_one(tmp_path):
    tool = str(runs.ROOT / 'tools/benchmark/interruptions.py')
    arguments = ['--kills', '1', '--iters', '4', '--images', '4', '--resume-at', '50000']
    out = runs.run_script(tool, *arguments, cwd=tmp_path).stdout
    assert re.search(r'1 kills of \d+ runs: weights, best checkpoint and files equal', out)
    fresh, late = re.findall(r'start at iteration \d+: first step after ([\d.]+) s', out)
    # skipping the data of 50,000 iterations takes minutes
    assert float(late) < 3 * float(fresh) + 20
