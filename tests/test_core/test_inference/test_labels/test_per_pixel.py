"""Labels of per-pixel models are the arg-max of resized logits, computed without storing all of these."""

import pytest
import torch
import torch.nn.functional as F

from mmmaskformer.core.inference.labels import search
from mmmaskformer.core.inference.labels.search import label_map
from mmmaskformer.core.inference.labels.views import class_scores, score_view, window_view
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.resize import crop_and_resize, resize

COARSE = (20, 25)


def make_logits(kind, num_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (4, 5) if kind == 'smooth' else COARSE
    logits = 5 * torch.randn(1, num_classes, *shape, generator=generator, dtype=torch.float64)
    return F.interpolate(logits, size=COARSE, mode='bicubic')[0] if kind == 'smooth' else logits[0]


def assert_best(labels, scores):
    chosen = scores.gather(0, labels[None].long())[0]
    torch.testing.assert_close(chosen, scores.amax(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('num_classes', [1, 2, 150, 847])
@pytest.mark.parametrize('kind', ['random', 'smooth'])
@pytest.mark.parametrize('sizes', [((80, 100), (77, 91), (77, 91)), ((80, 100), (80, 99), (113, 140))])
def test_labels_are_those_of_the_logits(kind, num_classes, sizes):
    logits = make_logits(kind, num_classes)
    view = score_view(None, QueryMasks.of_logits(logits, *sizes))
    expected = crop_and_resize(resize(logits, sizes[0]), *sizes[1:])
    torch.testing.assert_close(class_scores([view]), expected)
    assert_best(label_map([view]), expected)


def test_all_logits_may_be_negative_or_large():
    for shift, scale in ((-1e3, 1.0), (0.0, 1e3)):
        logits = scale * make_logits('smooth', 9) + shift
        view = score_view(None, QueryMasks.of_logits(logits, (80, 100), (80, 100), (80, 100)))
        assert_best(label_map([view]), resize(logits, (80, 100)))


def test_logits_of_several_views_are_added():
    views, total = [], 0
    for seed, flipped in enumerate((False, True)):
        logits = make_logits('smooth', 9, seed)
        views.append(score_view(None, QueryMasks.of_logits(logits, (80, 100), (80, 100), (77, 91), flipped)))
        resized = resize(resize(logits, (80, 100)), (77, 91))
        total = total + (resized.flip(-1) if flipped else resized)
    assert_best(label_map(views), total)


def test_windows_are_averaged_and_excess_up_sampling_is_cropped():
    """Two windows of 38 x 30 pixels, with logits for 40 x 32, side by side in an image of 38 x 50."""
    weights = torch.ones(38), torch.ones(50)
    weights[1][20:30] = 0.5
    views, total = [], torch.zeros(9, 38, 50, dtype=torch.float64)
    for seed, left in enumerate((0, 20)):
        logits = make_logits('smooth', 9, seed)[:, :10, :8] - 3
        window = dict(padded_size=(40, 32), rows=slice(0, 38), columns=slice(left, left + 30), weights=weights)
        views.append(window_view(None, logits, **window, image_size=(38, 50), out_size=(57, 75)))
        total[:, :, left : left + 30] += resize(logits, (40, 32))[:, :38, :30] * weights[1][left : left + 30]
    expected = resize(total, (57, 75))
    torch.testing.assert_close(class_scores(views), expected, rtol=1e-6, atol=1e-6)
    assert_best(label_map(views), class_scores(views))


def test_few_logits_are_computed_where_classes_are_clear(monkeypatch):
    computed = []
    scores = search._scores

    def counted(summands, tiles, classes):
        computed.append((len(tiles), len(classes)))
        return scores(summands, tiles, classes)

    monkeypatch.setattr(search, '_scores', counted)
    logits = torch.full((150, 120, 160), -30.0)
    logits[[7, 100]] = -9.0
    logits[7, :, :80] = logits[100, :, 80:] = 9.0
    labels = label_map([score_view(None, QueryMasks.of_logits(logits, (480, 640), (480, 640), (480, 640)))])
    assert torch.equal(labels, torch.where(torch.arange(640) < 320, 7, 100).int().expand(480, 640))
    assert computed == [(2 * 60, 2)], 'tiles along the border only, between two classes'
