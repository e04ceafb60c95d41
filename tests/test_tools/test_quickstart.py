"""The output of the first command: progress from logs of pip and mmengine, the table and the next commands."""

import importlib
import json
import runpy
import subprocess
import sys

import pytest
from helpers.fresh import ROOT
from mmengine.config import Config

from mmmaskformer.datasets.scenes.files import write_scenes

PROGRESS = ROOT / 'tools/quickstart/progress.py'
sys.path.insert(0, str(PROGRESS.parent))  # as when it is run as a script
progress = runpy.run_path(str(PROGRESS))
thread_waiting = importlib.import_module('thread_waiting')
thread_settings = thread_waiting.thread_settings
summary = runpy.run_path(str(ROOT / 'tools/quickstart/summary.py'))


def test_iterations_are_read_with_the_time_left():
    read = progress['Iterations']().read
    prefix = '11/25 15:33:29 - mmengine - INFO - '
    line = 'Iter(train) [ 80/800]  base_lr: 1.0000e-03  eta: 0:01:23  time: 0.1  loss: 3.2100  loss_cls: 1.0'
    assert read(prefix + line) == 'step 80 of 800, loss 3.2100, 0:01:23 left'
    assert (
        read(prefix + 'Iter(test) [ 50/200]    eta: 1 day, 0:00:09  time: 0.05')
        == 'image 50 of 200, 1 day, 0:00:09 left'
    )
    scores = 'Iter(val) [200/200]    panoptic/PQ: 60.8000  mIoU: 87.4000  data_time: 0.005'
    assert read(prefix + scores) == 'validation: panoptic/PQ: 60.8000'
    assert read('Loads checkpoint by local backend from path: x') is None


def test_megabytes_of_all_files_are_added_up(tmp_path):
    (tmp_path / 'here.whl').write_bytes(bytes(2_000_000))
    download = progress['Download'](100)
    assert download.read('Collecting torch==2.14.1') is None
    assert download.read('  Downloading torch-2.14.1.whl.metadata (500 kB)').startswith('0 of about 100 MB')
    assert download.read('  Downloading torch-2.14.1.whl (40.5 MB)').startswith('41 of about 100 MB')
    assert download.read('Progress 20000000 of 40500000').startswith('20 of about 100 MB')
    assert download.read('Progress 40500000 of 40500000').startswith('41 of about 100 MB')
    assert download.read(f'Processing {tmp_path}/here.whl').startswith('43 of about 100 MB')
    assert (
        download.read('Installing collected packages: a, b, c')
        == '43 MB downloaded; installing 3 packages, which takes minutes'
    )


def test_a_failed_command_ends_with_its_message_and_its_status(tmp_path):
    code = 'import sys; print("before"); sys.exit("a clear message")'
    done = subprocess.run(
        [sys.executable, str(PROGRESS), str(tmp_path / 'logs/x.log'), '--', sys.executable, '-c', code],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == 'a clear message'
    assert str(tmp_path / 'logs/x.log') in done.stderr
    assert (tmp_path / 'logs/x.log').read_text().splitlines()[1:] == ['before', 'a clear message']


@pytest.mark.parametrize(
    ('passed', 'expected'),
    [
        ([5, 0, 3, 92, 0, 0, 0, 0], {'GOMP_SPINCOUNT': '10000'}),
        ([5, 0, 3, 2, 90, 0, 0, 0], {'GOMP_SPINCOUNT': '10000'}),
        ([50, 0, 0, 50, 0, 0, 0, 0], {'OMP_WAIT_POLICY': 'PASSIVE'}),
        ([0, 50, 0, 50, 0, 0, 0, 0], {'OMP_WAIT_POLICY': 'PASSIVE'}),
        ([0, 0, 0, 70, 0, 0, 0, 30], {'OMP_WAIT_POLICY': 'PASSIVE'}),
    ],
    ids=['idle', 'disk', 'busy', 'nice', 'stolen'],
)
def test_threads_spin_on_an_idle_machine_only(passed, expected, tmp_path, monkeypatch):
    stat, start = tmp_path / 'stat', [1000, 20, 300, 40000, 50, 6, 7, 8]

    def write(times):
        stat.write_text(f'cpu  {" ".join(map(str, times))} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n')

    write(start)
    after = [a + b for a, b in zip(start, passed, strict=True)]
    monkeypatch.setattr(thread_waiting.time, 'sleep', lambda seconds: write(after))
    assert thread_settings({}, stat) == expected


def test_the_choice_of_the_user_is_kept(tmp_path):
    assert thread_settings({'OMP_WAIT_POLICY': 'ACTIVE'}) == thread_settings({'GOMP_SPINCOUNT': '5'}) == {}
    assert thread_settings({}, tmp_path / 'absent') == {}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder as the first command leaves it, with invented scores."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / 'data/scenes', 1, 1)
    scores = dict(semantic=dict(mIoU=82.51), panoptic={'panoptic/PQ': 60.77, 'mIoU': 87.4})
    for name, values in scores.items():
        for stamp, factor in (('20260101_000000', 0.5), ('20260102_000000', 1)):
            folder = tmp_path / f'results/{name}/test/{stamp}'
            folder.mkdir(parents=True)
            (folder / f'{stamp}.json').write_text(json.dumps({key: factor * value for key, value in values.items()}))
        (tmp_path / f'results/{name}/last_checkpoint').write_text(str(tmp_path / f'results/{name}/iter_9.pth'))
    return (tmp_path / 'results').relative_to(tmp_path)


def test_the_table_has_the_scores_of_the_latest_test(results):
    lines = summary['table'](results, 125).splitlines()
    assert lines[1].split() == ['semantic', '82.5', '-', 'results/semantic/pictures/overview.png,', 'curve.png']
    assert lines[2].split()[:3] == ['panoptic', '87.4', '60.8']
    assert lines[3].endswith('2 min 5 s')


def test_the_next_commands_name_files_that_exist(results):
    steps = summary['next_steps'](results)
    commands = [line.strip() for line in steps.splitlines() if line.startswith('    ')][-3:]
    assert [command.split()[0] for command in commands] == ['python', 'python', 'mim']
    words = steps.replace("'", ' ').replace('(', ' ').replace(')', ' ').split()
    named = [word for word in words if word.endswith(('.py', '.png')) and '/' in word]
    assert len(named) == 4 and all((results.parent / word).exists() for word in named)


def test_the_config_for_own_data_trains_on_the_scenes_unchanged(results):
    summary['next_steps'](results)
    config = Config.fromfile(results / 'my_config.py')
    small = Config.fromfile(ROOT / 'configs/scenes/maskformer_tiny_1xb8-800_scenes.py')
    assert config.model == small.model and config.train_cfg == small.train_cfg
    assert config.train_dataloader.dataset.pipeline == small.train_dataloader.dataset.pipeline
    assert config.train_dataloader.dataset.data_prefix == small.train_dataloader.dataset.data_prefix
    assert config.test_dataloader == config.val_dataloader
