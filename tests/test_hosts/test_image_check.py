"""A training image with NaN is named with its file, and the run stops or skips the step."""

from types import SimpleNamespace

import pytest
import torch
from helpers import hosts
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS

from mmmaskformer.hosts.image_check import NonFiniteImageError, non_finite_images

RUNNER = SimpleNamespace(iter=41)


def batch(bad: tuple[int, ...] = ()) -> dict:
    """Three float images."""
    pairs = [hosts.make_sample((64, 64), seed=seed, img_path=f'images/{seed}.jpg') for seed in range(3)]
    images, samples = zip(*pairs, strict=True)
    images = [image.float() for image in images]
    for image in bad:
        images[image][0, 5, 6] = float('inf') if image else float('nan')
    return dict(inputs=images, data_samples=list(samples))


def hook(**settings):
    return HOOKS.build(dict(type='mmmaskformer.CheckImagesHook') | settings)


def test_positions_and_files_are_found():
    assert non_finite_images(batch()) == {}
    assert non_finite_images(batch((0, 2))) == {0: 'images/0.jpg', 2: 'images/2.jpg'}
    assert non_finite_images(dict(inputs=torch.full((2, 3, 4, 4), float('nan')))) == dict.fromkeys(
        range(2), 'file not known'
    )
    whole_numbers = dict(inputs=[torch.zeros(3, 4, 4, dtype=torch.uint8)], data_samples=[])
    assert non_finite_images(whole_numbers) == non_finite_images(None) == {}


def test_the_run_stops_by_default():
    with pytest.raises(
        NonFiniteImageError, match=r"iteration 42: inf or NaN in image 1 of the batch \(images/1.jpg\).*'skip'"
    ):
        hook().before_train_iter(RUNNER, 41, batch((1,)))
    with pytest.raises(ValueError, match="on_non_finite: found 'ignore', expected 'stop' or 'skip'"):
        hook(on_non_finite='ignore')


def test_a_skipped_step_changes_nothing_and_the_next_one_trains(monkeypatch):
    """Weights and batch norm statistics after bad and good steps equal those after the good steps alone."""
    log = []
    monkeypatch.setattr('mmmaskformer.hosts.image_check.print_log', lambda text, **_: log.append(text))

    def trained(*batches):
        model = hosts.make_segmentor().train()
        wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
        runner, check = SimpleNamespace(model=model, iter=0), hook(on_non_finite='skip')
        for data in batches:
            torch.manual_seed(0)
            check.before_train_iter(runner, runner.iter, data)
            logged = runner.model.train_step(data, wrapper)
            check.after_train_iter(runner, runner.iter)
            runner.iter += 1
            assert bool(logged) != bool(non_finite_images(data))
        check.after_train(runner)
        return model.state_dict()

    expected = trained(batch(), batch())
    assert log == []
    found = trained(batch((1,)), batch(), batch((0, 2)), batch())
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert log[0].startswith('iteration 1: inf or NaN in image 1 of the batch (images/1.jpg): the step is skipped')
    assert 'image 0 of the batch (images/0.jpg), image 2 of the batch (images/2.jpg)' in log[1]
    assert log[2] == '2 training steps were skipped because of images that hold inf or NaN.'


def test_all_processes_skip_together(monkeypatch):
    """Another process has found a bad image; this one, whose images are valid, skips the step as well."""
    monkeypatch.setattr('mmmaskformer.hosts.image_check.get_world_size', lambda: 2)
    monkeypatch.setattr('mmmaskformer.hosts.image_check.all_reduce', lambda counts: counts.add_(1))
    runner, check = SimpleNamespace(model=hosts.make_segmentor(), iter=0), hook(on_non_finite='skip')
    check.before_train_iter(runner, 0, batch())
    assert runner.model.train_step(batch(), None) == {}
    check.after_train_iter(runner, 0)
    assert runner.model.train_step.__func__ is type(runner.model).train_step


@pytest.mark.parametrize(
    ('version', 'warns'), [('4.9.0', True), ('4.10.0-dev', True), ('4.11.0', False), ('5.0.0', False)]
)
def test_an_opencv_that_reads_half_files_is_named(monkeypatch, version, warns):
    messages = []
    monkeypatch.setattr('cv2.__version__', version)
    monkeypatch.setattr('mmmaskformer.hosts.image_check.print_log', lambda text, **_: messages.append(text))
    hook().before_run(RUNNER)
    assert bool(messages) == warns and all(f'OpenCV {version} reads truncated JPEG' in text for text in messages)
