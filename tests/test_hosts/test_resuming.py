"""What `--resume` accepts and refuses, and that a resumed run equals an uninterrupted one."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import runs
from helpers.toy_runs import make_runner
from mmengine.config import Config
from mmengine.dataset import RepeatDataset

from mmmaskformer.datasets.scenes.files import write_scenes
from mmmaskformer.hosts.checkpoint_files import CheckpointFolder, is_whole
from mmmaskformer.hosts.resumed_settings import _report_new_state
from mmmaskformer.hosts.resuming import _AfterSkipping


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """A run of 8 iterations with all its checkpoints, and the images that it used."""
    work_dir = tmp_path_factory.mktemp('run') / 'whole'
    runner = make_runner(work_dir, checkpoint=dict(max_keep_ckpts=-1))
    runner.train()
    return work_dir, runner.model.seen, final_weights(runner)


def final_weights(runner):
    return torch.cat([value.detach().flatten() for value in runner.model.parameters()])


@pytest.fixture
def copy(tmp_path, uninterrupted):
    """Copies selected checkpoints into a work directory."""

    def copy_checkpoints(*steps: int, pointer: str | None = None):
        work_dir = tmp_path / 'work'
        work_dir.mkdir()
        for step in steps:
            shutil.copy(uninterrupted[0] / f'iter_{step}.pth', work_dir)
        if pointer is not None:
            (work_dir / 'last_checkpoint').write_text(pointer)
        return work_dir

    return copy_checkpoints


@pytest.fixture
def messages(monkeypatch):
    lines = []
    for module in ('resuming', 'newest_checkpoint', 'resumed_settings'):
        monkeypatch.setattr(f'mmmaskformer.hosts.{module}.print_log', lambda text, **_: lines.append(text))
    return lines


def resume(work_dir, **kwargs):
    runner = make_runner(work_dir, resume=True, **kwargs)
    runner.train()
    return runner


def test_the_loop_of_the_maintained_fork_skips_unread_data():
    batches = _AfterSkipping(iter(['third', 'fourth']), 2)
    batches.skip_iter(2)
    assert list(batches) == ['third', 'fourth']
    batches = _AfterSkipping(iter(['third']), 2)
    assert list(batches) == [None, None, 'third']


@pytest.mark.parametrize('workers', [0, 2])
def test_a_resumed_run_has_the_same_images_and_weights(copy, messages, uninterrupted, workers):
    runner = resume(copy(4), workers=workers)
    assert len(runner.model.seen) == 4
    assert torch.equal(torch.stack(runner.model.seen), torch.stack(uninterrupted[1][4:]))
    assert torch.equal(final_weights(runner), uninterrupted[2])
    assert 'The data loader starts at iteration 4; no data are read again.' in messages


@pytest.mark.parametrize('seed', [None, 6])
@pytest.mark.parametrize('workers', [0, 2])
def test_the_data_have_the_seed_of_the_interrupted_run(copy, uninterrupted, workers, seed):
    runner = resume(copy(4), workers=workers, seed=seed)
    assert torch.equal(torch.stack(runner.model.seen), torch.stack(uninterrupted[1][4:]))
    assert torch.equal(final_weights(runner), uninterrupted[2])


def test_data_of_another_seed_are_reported(copy, messages):
    resume(copy(4), sampler='InfiniteSampler', seed=6)
    assert any('The interrupted run had the seed 5' in line and 'randomness.seed=5' in line for line in messages)


def test_data_with_their_own_seed_keep_it(copy):
    runner = make_runner(copy(4), resume=True, seed=6)
    runner.train_dataloader.sampler.seed = 7
    runner.train()
    assert runner.seed == 5 and runner.train_dataloader.sampler.seed == 7


def test_another_batch_size_continues_with_the_unused_data(copy, uninterrupted):
    first = resume(copy(4), batch=1, iters=6)
    assert torch.equal(torch.cat(first.model.seen), uninterrupted[1][4])
    second = resume(Path(first.work_dir), iters=8)
    assert torch.equal(torch.cat(second.model.seen), torch.cat(uninterrupted[1][5:7]))
    log = '\n'.join(path.read_text() for path in Path(first.work_dir).rglob('*.log'))
    assert 'Until iteration 4 the run saw 2 samples per iteration of a dataset of 7; from here on it sees 1 of 7' in log


@pytest.mark.parametrize('before, is_reported', [(None, False), (1, False), (3, True)])
def test_another_number_of_processes_is_reported(copy, uninterrupted, before, is_reported):
    """Also if both use the same total batch and therefore the same data; old checkpoints do not record it."""
    work_dir = copy(4)
    checkpoint = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    seen = checkpoint['message_hub']['runtime_info']['seen_data']
    assert seen.pop('processes') == 1
    seen |= {} if before is None else dict(processes=before)
    torch.save(checkpoint, work_dir / 'iter_4.pth')
    runner = resume(work_dir)
    assert torch.equal(torch.stack(runner.model.seen), torch.stack(uninterrupted[1][4:]))
    log = '\n'.join(path.read_text() for path in work_dir.rglob('*.log'))
    message = 'the run had 3 processes; from here on it has 1 process. Its losses differ from an uninterrupted run'
    assert (message in log) == is_reported == ('from here on it has' in log)


def test_processes_with_different_checkpoints_are_refused(copy, monkeypatch):
    """As on two machines whose work dirs have one name and are on different disks."""
    monkeypatch.setattr('mmmaskformer.hosts.resuming.get_world_size', lambda: 2)
    monkeypatch.setattr('mmmaskformer.hosts.resuming.all_gather_object', lambda iteration: [iteration, 0])
    with pytest.raises(
        ValueError, match=r'the 2 processes start at the iterations \[4, 0\].* Fix: put the work dir on a disk'
    ):
        resume(copy(2, 4))


def test_no_data_are_read_again(copy, monkeypatch):
    work_dir, read = copy(6), []
    runner = make_runner(work_dir, resume=True)
    dataset = runner.train_dataloader.dataset
    prepare = dataset.prepare_data
    monkeypatch.setattr(dataset, 'prepare_data', lambda index: read.append(index) or prepare(index))
    runner.train()
    assert len(read) == 2 * 2


def test_wrapped_data_are_the_same_after_a_resume(tmp_path):
    def wrap(dataset):
        return RepeatDataset(dataset, 3)

    whole = make_runner(tmp_path, iters=5, wrap=wrap, checkpoint=dict(max_keep_ckpts=-1))
    whole.train()
    (tmp_path / 'iter_5.pth').unlink()
    resumed = resume(tmp_path, iters=5, wrap=wrap)
    assert torch.equal(torch.stack(resumed.model.seen), torch.stack(whole.model.seen[4:]))


def test_other_samplers_read_data_again_and_report_it(copy, messages):
    resume(copy(6), sampler='InfiniteSampler')
    assert any('read again in order to skip them. Faster: train_dataloader.sampler.type=' in line for line in messages)


@pytest.mark.parametrize(
    'pointer', [None, '', 'iter_9.pth', 'nowhere/iter_9.pth', 'nowhere/iter_8.pth'], ids=lambda value: repr(value)
)
def test_the_newest_checkpoint_of_the_folder_is_used(copy, messages, pointer):
    work_dir = copy(2, 4, pointer=pointer)
    assert len(resume(work_dir).model.seen) == 4
    assert f'{work_dir}/iter_4.pth is the newest complete checkpoint of this run' in '\n'.join(messages)


@pytest.mark.parametrize('content', [bytes(40), b'x/\0y', b'\xff\xfe\n/etc', b'z' * 9000])
def test_a_damaged_last_checkpoint_file_is_ignored(copy, messages, content):
    work_dir = copy(2, 4)
    (work_dir / 'last_checkpoint').write_bytes(content)
    assert len(resume(work_dir).model.seen) == 4
    lines = '\n'.join(messages)
    assert f'{work_dir}/iter_4.pth is the newest complete checkpoint of this run' in lines
    named = (
        'does not name it' if b'z' in content else f'{work_dir}/last_checkpoint is damaged and ignored; it begins with'
    )
    assert named in lines and max(map(len, messages)) < 600


@pytest.mark.parametrize('kind', ['folder', 'link'])
def test_a_last_checkpoint_file_that_cannot_be_written_is_reported_at_the_start(copy, kind):
    work_dir = copy(2, 4)
    pointer = work_dir / 'last_checkpoint'
    pointer.mkdir() if kind == 'folder' else pointer.symlink_to('nowhere')
    with pytest.raises(FileExistsError, match='last_checkpoint: found a (folder|broken symbolic link), expected'):
        resume(work_dir)


def test_names_with_a_format_are_found(copy):
    work_dir = copy(2, 4)
    for step in (2, 4):
        (work_dir / f'iter_{step}.pth').rename(work_dir / f'iter_{step:06d}.pth')
    assert len(resume(work_dir, checkpoint=dict(filename_tmpl='iter_{:06d}.pth')).model.seen) == 4
    assert {path.name for path in work_dir.glob('iter_*')} >= {'iter_000006.pth', 'iter_000008.pth'}


@pytest.mark.parametrize('length', [0.5, 0.999, 0])
def test_a_damaged_newest_checkpoint_is_skipped(copy, messages, length):
    work_dir = copy(2, 4, pointer='iter_4.pth')
    content = (work_dir / 'iter_4.pth').read_bytes()
    (work_dir / 'iter_4.pth').write_bytes(content[: int(length * len(content))])
    assert len(resume(work_dir).model.seen) == 6
    assert f'{work_dir}/iter_2.pth is the newest complete checkpoint of this run (damaged: iter_4.pth).' in messages


def test_a_flipped_bit_is_found(copy):
    work_dir = copy(4)
    content = bytearray((work_dir / 'iter_4.pth').read_bytes())
    content[len(content) // 3] ^= 8
    (work_dir / 'iter_4.pth').write_bytes(content)
    with pytest.raises(ValueError, match=r'none of the checkpoints iter_4.pth is complete.* Fix: remove them'):
        resume(work_dir)


def test_any_flipped_bit_that_torch_notices_is_found(tmp_path):
    """Most of the file is names and sizes, of which zipfile and torch each check some."""
    path, weights = tmp_path / 'iter_1.pth', dict(a=torch.arange(5.0), b=torch.ones(2))
    torch.save(weights, path)
    content, broken = path.read_bytes(), 0
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        if is_whole(path):
            found = torch.load(path, weights_only=True)
            assert all(torch.equal(found[key], value) for key, value in weights.items()), position
        else:
            broken += 1
    assert broken > 150


def test_a_folder_with_the_parts_of_several_processes(tmp_path):
    folder = tmp_path / 'iter_2.pth'
    folder.mkdir()
    assert not is_whole(folder)
    for rank in range(2):
        torch.save(torch.ones(3), folder / f'rank{rank}.pth')
    assert is_whole(folder) and CheckpointFolder(tmp_path, 'iter_{}.pth').checkpoints() == {2: folder}
    (folder / 'rank1.pth').write_bytes(b'half')
    assert not is_whole(folder)


def test_a_chosen_older_checkpoint_of_the_folder_is_used(copy, messages):
    assert len(resume(copy(2, 4, pointer='iter_2.pth')).model.seen) == 6
    assert any('names iter_2.pth and was written later than iter_4.pth; the named file' in line for line in messages)
    assert not any('in another folder' in line for line in messages)


def test_an_outdated_last_checkpoint_file_is_ignored(copy, messages):
    work_dir = copy(2, 4, pointer='iter_2.pth')
    os.utime(work_dir / 'last_checkpoint', (1, 1))
    assert len(resume(work_dir).model.seen) == 4
    assert f'{work_dir}/iter_4.pth is the newest complete checkpoint of this run' in '\n'.join(messages)


def test_a_copied_work_dir_does_not_change_the_original(tmp_path, uninterrupted):
    original = tmp_path / 'original'
    runner = make_runner(original)
    runner.train_loop._max_iters = 4  # stopped early
    runner.train()
    before = {path.name: path.read_bytes() for path in original.glob('*.pth')}
    assert 'best_mIoU_iter_3.pth' in before
    shutil.copytree(original, tmp_path / 'copied')
    runner = resume(tmp_path / 'copied')
    assert torch.equal(final_weights(runner), uninterrupted[2])
    assert {path.name: path.read_bytes() for path in original.glob('*.pth')} == before
    assert {path.name for path in (tmp_path / 'copied').glob('*.pth')} == {
        'best_mIoU_iter_6.pth',
        'iter_6.pth',
        'iter_8.pth',
    }


def test_without_a_checkpoint_the_run_starts_from_load_from(copy, messages, uninterrupted):
    start = str(uninterrupted[0] / 'iter_8.pth')
    runner = make_runner(copy(), iters=2, resume=True, load_from=start)
    runner.train()
    assert runner.iter == 2 and len(runner.model.seen) == 2
    assert any(f'the run starts from the weights of load_from={start}' in line for line in messages)


def test_the_checkpoint_of_the_run_has_precedence_over_load_from(copy, messages, uninterrupted):
    runner = resume(copy(4), load_from=str(uninterrupted[0] / 'iter_8.pth'))
    assert len(runner.model.seen) == 4
    assert any('iter_4.pth. load_from=' in line and 'is ignored' in line for line in messages)


def test_a_load_from_inside_the_work_dir_is_resumed(copy):
    work_dir = copy(2, 4)
    assert len(resume(work_dir, load_from=str(work_dir / 'iter_2.pth')).model.seen) == 6


def test_a_new_run_beside_files_of_an_earlier_one_reports_them(copy, messages):
    work_dir = copy(2, 4)
    make_runner(work_dir, iters=1).train()
    (line,) = messages
    assert line.startswith(f'{work_dir} holds checkpoints of an earlier run, the newest of them iter_4.pth: this run')


def test_a_run_without_a_checkpoint_to_resume_reports_it(copy, messages):
    work_dir = copy()
    assert len(resume(work_dir, iters=1).model.seen) == 1
    assert messages == [
        f'There is no checkpoint of this run in {work_dir} to resume from; the run starts at iteration 0.'
    ]


@pytest.mark.parametrize(
    'drop, message',
    [
        (['optimizer'], 'holds no optimizer state, so'),
        (['optimizer', 'param_schedulers'], 'holds no optimizer state, no learning-rate schedule, so'),
        (['meta'], 'holds no iteration, so'),
    ],
)
def test_files_without_the_state_of_a_run_are_refused(copy, drop, message):
    work_dir = copy(4)
    checkpoint = torch.load(work_dir / 'iter_4.pth', weights_only=True)
    torch.save({key: value for key, value in checkpoint.items() if key not in drop}, work_dir / 'iter_4.pth')
    with pytest.raises(ValueError, match=f'iter_4.pth {message} a run cannot be resumed from it. Fix: .*load_from='):
        resume(work_dir)


@pytest.mark.parametrize(
    'part, value, message',
    [
        ('message_hub', {}, 'no iteration'),
        ('meta', dict(iter='x', epoch=0), 'no iteration'),
        ('meta', dict(iter=-3, epoch=0), 'no iteration'),
        ('meta', dict(iter=4), 'no iteration'),
        ('optimizer', None, 'no optimizer state'),
        ('param_schedulers', [{}], 'no learning-rate schedule'),
    ],
)
def test_files_with_a_part_of_the_state_are_refused(copy, part, value, message):
    work_dir = copy(4)
    checkpoint = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    torch.save(checkpoint | {part: value}, work_dir / 'iter_4.pth')
    with pytest.raises(ValueError, match=f'iter_4.pth holds {message}, so a run cannot be resumed from it. Fix'):
        resume(work_dir)


@pytest.mark.parametrize('kept', [0, 1])
def test_missing_state_of_parameters_is_reported(copy, messages, kept):
    work_dir = copy(4)
    checkpoint = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    state = checkpoint['optimizer']['state']
    assert len(state) == 2
    checkpoint['optimizer']['state'] = dict(list(state.items())[:kept])
    torch.save(checkpoint, work_dir / 'iter_4.pth')
    resume(work_dir)
    assert any(
        f'holds no optimizer state of {2 - kept} of 2 parameters: it is re-initialised for them' in x for x in messages
    )


@pytest.mark.parametrize('gradient', [True, False])
def test_state_of_parameters_without_a_gradient_is_not_missed(messages, gradient):
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.AdamW([used, unused])
    used.grad = torch.ones(2)
    optimizer.step()
    stored = optimizer.state_dict()
    _report_new_state(optimizer, stored, 'iter_4.pth')
    optimizer.load_state_dict(stored)
    unused.grad = torch.ones(2) if gradient else None
    for _ in range(2):
        optimizer.step()
    assert sum('holds no optimizer state of 1 of 2 parameters' in text for text in messages) == gradient


def test_code_in_a_stored_config_is_not_run(copy, tmp_path):
    work_dir, executed = copy(4), tmp_path / 'executed'
    checkpoint = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    checkpoint['meta']['config'] = f"x = __import__('os').mkdir({str(executed)!r})"  # which mmengine reads on resume
    torch.save(checkpoint, work_dir / 'iter_4.pth')
    assert len(resume(work_dir).model.seen) == 4
    assert not executed.exists()
    Config.fromstring(checkpoint['meta']['config'], '.py')
    assert executed.exists()


def test_files_of_weights_only_are_refused(copy):
    work_dir = copy()
    torch.save(dict(weight=torch.ones(2)), work_dir / 'iter_4.pth')
    with pytest.raises(ValueError, match='holds no iteration, no optimizer state, no learning-rate schedule'):
        resume(work_dir)


@pytest.mark.parametrize('how', [dict(resume=True), dict()])
def test_safetensors_are_named(copy, tmp_path, how):
    header = json.dumps(dict(weight=dict(dtype='F32', shape=[1], data_offsets=[0, 4]))).encode()
    file = tmp_path / 'weights.safetensors'
    file.write_bytes(len(header).to_bytes(8, 'little') + header + bytes(4))
    with pytest.raises(ValueError, match='weights.safetensors is a safetensors file: .* Fix: convert it'):
        make_runner(copy(), load_from=str(file), **how).train()


@pytest.mark.parametrize('step', [3, 6, 8])
def test_an_interrupted_validation_is_run_first(tmp_path, messages, uninterrupted, step):
    """Killed during the validation after an iteration, including the last one, or before its result was saved."""
    work_dir = tmp_path / 'work'

    class Killed(BaseException):
        pass

    runner = make_runner(work_dir, checkpoint=dict(interval=1))
    run_iter = runner.val_loop.run_iter

    def die(*arguments):
        if runner.iter == step:
            raise Killed
        return run_iter(*arguments)

    runner.val_loop.run_iter = die
    with pytest.raises(Killed):
        runner.train()
    resumed = resume(work_dir, checkpoint=dict(interval=1))
    assert f'The validation after iteration {step} did not finish; running it now.' in messages
    assert torch.equal(final_weights(resumed), uninterrupted[2])
    best = [path.name for path in work_dir.glob('best_*.pth')]
    assert best == ['best_mIoU_iter_6.pth']
    assert resumed.message_hub.get_info('best_score') == pytest.approx(
        torch.load(uninterrupted[0] / 'iter_8.pth', weights_only=True)['message_hub']['runtime_info']['best_score']
    )


def test_a_validation_that_ended_is_not_repeated(copy, messages):
    resume(copy(8))
    assert not any('did not finish' in line for line in messages)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'scenes'
    write_scenes(root, 4, 1)
    return root


@pytest.mark.parametrize('panoptic', [False, True], ids=['mmseg', 'mmdet'])
def test_resume_beside_load_from_through_the_hosts_scripts(tmp_path, scenes, panoptic):
    """Without a checkpoint, load_from is used; later the run's own checkpoint. The other run does not change."""
    train = str(runs.ROOT / 'tools/train.py')
    other = runs.write_config(tmp_path / 'other.py', scenes, panoptic=not panoptic, iters=2)
    runs.run_script(train, str(other), '--work-dir', 'other', cwd=tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / 'other').glob('*.pth')}
    config = runs.write_config(tmp_path / 'mine.py', scenes, panoptic=panoptic, iters=4)
    arguments = [train, str(config), '--work-dir', 'mine', '--resume', '--cfg-options', 'load_from=other/iter_2.pth']
    first = runs.run_script(*arguments, 'train_cfg.max_iters=2', cwd=tmp_path)
    out = first.stdout + first.stderr
    assert 'the run starts from the weights of load_from=other/iter_2.pth' in out
    assert 'its weights are loaded into the' in out and 'Iter(train) [1/2]' in out
    second = runs.run_script(*arguments, 'optim_wrapper.optimizer.lr=0.5', cwd=tmp_path)
    out = second.stdout + second.stderr
    assert 'continued: optim_wrapper.optimizer.lr 0.001 -> 0.5. Fix: to train with the new values' in out
    assert 'checkpoint was saved: train_cfg.max_iters 2 -> 4. The run follows them' in out
    assert 'mine/iter_2.pth. load_from=other/iter_2.pth is ignored' in out
    assert 'resumed epoch: 0, iter: 2' in out and 'Iter(train) [3/4]' in out
    assert {path.name: path.read_bytes() for path in (tmp_path / 'other').glob('*.pth')} == before


def test_a_flexible_runner_is_resumed_exactly_by_the_hosts_script(tmp_path, scenes):
    """mmengine would skip the iteration after a validation, and would load `load_from` or a damaged file."""
    more = (
        "runner_type = 'FlexibleRunner'\nstrategy = dict(type='SingleDeviceStrategy')\ntrain_cfg['val_interval'] = 2\n"
    )
    config = runs.write_config(tmp_path / 'config.py', scenes, iters=4, more=more)
    start = [str(runs.ROOT / 'tools/train.py'), str(config), '--work-dir']
    runs.run_script(*start, 'whole', cwd=tmp_path)
    (tmp_path / 'parts').mkdir()
    shutil.copy(tmp_path / 'whole/iter_2.pth', tmp_path / 'parts')
    (tmp_path / 'parts/iter_3.pth').write_bytes(b'half')
    (tmp_path / 'parts/last_checkpoint').write_text('iter_3.pth')
    done = runs.run_script(*start, 'parts', '--resume', '--cfg-options', 'load_from=absent.pth', cwd=tmp_path)
    out = done.stdout + done.stderr
    assert 'newest complete checkpoint of this run (damaged: iter_3.pth)' in out and 'resumed epoch: 0, iter: 2' in out
    found, expected = (torch.load(tmp_path / name / 'iter_4.pth') for name in ('parts', 'whole'))
    assert found['meta']['iter'] == expected['meta']['iter'] == 4
    assert all(torch.equal(found['state_dict'][key], value) for key, value in expected['state_dict'].items())


@pytest.fixture(scope='module')
def uninterrupted_epochs(tmp_path_factory):
    """A run of 3 epochs of 4 iterations; see `uninterrupted`."""
    work_dir = tmp_path_factory.mktemp('epochs') / 'whole'
    runner = make_runner(work_dir, iters=3, by_epoch=True, checkpoint=dict(interval=1, max_keep_ckpts=-1))
    runner.train()
    assert len(runner.model.seen) == 12
    return work_dir, runner.model.seen, final_weights(runner)


@pytest.mark.parametrize('workers', [0, 2])
def test_training_by_epoch_is_resumed_exactly(tmp_path, uninterrupted_epochs, workers):
    shutil.copy(uninterrupted_epochs[0] / 'epoch_1.pth', tmp_path)
    runner = resume(tmp_path, iters=3, by_epoch=True, workers=workers)
    assert torch.equal(torch.cat(runner.model.seen), torch.cat(uninterrupted_epochs[1][4:]))
    assert torch.equal(final_weights(runner), uninterrupted_epochs[2])


@pytest.mark.parametrize('step', [4, 6, 8])
def test_a_checkpoint_within_an_epoch_is_resumed_exactly(tmp_path, uninterrupted_epochs, step):
    by_iteration = dict(by_epoch=False, interval=2, max_keep_ckpts=-1)
    make_runner(tmp_path / 'a', iters=3, by_epoch=True, checkpoint=by_iteration).train()
    (tmp_path / 'b').mkdir()
    shutil.copy(tmp_path / f'a/iter_{step}.pth', tmp_path / 'b')
    runner = resume(tmp_path / 'b', iters=3, by_epoch=True, checkpoint=by_iteration)
    assert runner.iter == 12
    assert torch.equal(torch.cat(runner.model.seen), torch.cat(uninterrupted_epochs[1][step:]))
    assert torch.equal(final_weights(runner), uninterrupted_epochs[2])


@pytest.mark.parametrize('batch, seen', [(1, 1), (4, 1)])
def test_an_epoch_continues_with_another_batch_size(tmp_path, uninterrupted_epochs, batch, seen):
    by_iteration = dict(by_epoch=False, interval=2, max_keep_ckpts=-1)
    make_runner(tmp_path / 'a', iters=3, by_epoch=True, checkpoint=by_iteration).train()
    (tmp_path / 'b').mkdir()
    shutil.copy(tmp_path / 'a/iter_6.pth', tmp_path / 'b')
    runner = resume(tmp_path / 'b', iters=3, by_epoch=True, checkpoint=by_iteration, batch=batch)
    whole = torch.cat(uninterrupted_epochs[1][6:])
    assert torch.equal(torch.cat(runner.model.seen), whole)


def test_epochs_of_another_length_start_at_their_beginning(tmp_path, uninterrupted_epochs):
    shutil.copy(uninterrupted_epochs[0] / 'epoch_1.pth', tmp_path)
    runner = resume(tmp_path, iters=3, by_epoch=True, batch=7)
    assert len(runner.model.seen) == 2
    assert torch.equal(torch.cat(runner.model.seen), torch.cat(uninterrupted_epochs[1][4:]))


def test_an_older_checkpoint_of_epochs_of_another_length_is_refused(tmp_path, uninterrupted_epochs):
    checkpoint = torch.load(uninterrupted_epochs[0] / 'epoch_1.pth', weights_only=True)
    checkpoint['message_hub']['runtime_info'].pop('seen_data')
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    with pytest.raises(ValueError, match=r'iteration 4 is of epoch 2, but epochs now have 1 iterations.*Fix'):
        resume(tmp_path, iters=3, by_epoch=True, batch=7)


def test_other_samplers_by_epoch_report_differences_or_are_refused(tmp_path, messages):
    settings = dict(iters=2, by_epoch=True, sampler='DefaultSampler')
    make_runner(tmp_path / 'a', checkpoint=dict(interval=1), **settings).train()
    (tmp_path / 'a/epoch_2.pth').unlink()
    resume(tmp_path / 'a', **settings)
    assert any('the augmentation uses other random numbers' in line for line in messages)
    by_iteration = dict(by_epoch=False, interval=3, max_keep_ckpts=-1)
    make_runner(tmp_path / 'b', checkpoint=by_iteration, **settings).train()
    (tmp_path / 'b/iter_8.pth').unlink()
    with pytest.raises(ValueError, match=r'iteration 6 was saved within epoch 2, after 2 of 4 .*ResumableSampler'):
        resume(tmp_path / 'b', checkpoint=by_iteration, **settings)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_sampler_that_does_not_fit_the_loop_is_refused(tmp_path, by_epoch):
    runner = make_runner(tmp_path, iters=1, by_epoch=by_epoch)
    runner.train_dataloader.sampler.by_epoch = not by_epoch
    with pytest.raises(ValueError, match=rf'Fix: train_dataloader.sampler.by_epoch={by_epoch}$'):
        runner.train()
