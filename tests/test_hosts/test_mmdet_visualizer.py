"""What our subclass of MMDetection's visualizer draws, and what it leaves to the host."""

import numpy as np
import pytest
import torch
from helpers.saved_models import warnings_in_force
from mmengine.registry import VISUALIZERS, init_default_scope
from mmengine.structures import PixelData

import mmmaskformer.registry  # noqa: F401  must come before mmdet where mmcv-lite is installed

from mmdet.structures import DetDataSample  # isort: skip

PALETTE = [[200, 0, 0], [0, 200, 0], [0, 0, 200]]


@pytest.fixture
def visualizer(request):
    init_default_scope('mmdet')
    found = VISUALIZERS.build(dict(type='mmmaskformer.DetLocalVisualizer', alpha=1.0, name=request.node.name))
    found.dataset_meta = dict(classes=('sky', 'dog', 'cat'), palette=PALETTE)
    return found


def sample_of(**fields) -> DetDataSample:
    sample = DetDataSample()
    for name, field in fields.items():
        setattr(sample, name, field)
    return sample


def drawn(visualizer, sample) -> np.ndarray:
    """Ground truth, or the plain image, beside the prediction."""
    image = np.full((120, 160, 3), 90, np.uint8)
    visualizer.add_datasample('a', image, sample)
    return visualizer.get_image()


# A pixel in each quarter, away from outlines and from the name in its centre.
QUARTERS = {(12, 14): 0, (12, 140): 1, (105, 14): 2, (105, 140): 3}


def quarters(values, dtype=torch.int32) -> torch.Tensor:
    """(1, 120, 160): one value per quarter."""
    return torch.tensor(values, dtype=dtype).reshape(2, 2).repeat_interleave(60, 0).repeat_interleave(80, 1)[None]


@pytest.mark.parametrize(('num_classes', 'offset'), [(999, 1000), (1203, 10_000), (200_000, 1_000_000)])
def test_any_number_of_classes(visualizer, num_classes, offset, monkeypatch):
    """The host reads labels modulo 1000, so class 1102 would be drawn as class 102."""
    written = []
    monkeypatch.setattr(visualizer, 'draw_texts', lambda text, *_, **__: written.append(text))
    labels = [num_classes - 1, 102, num_classes - 101]
    palette = np.random.default_rng(0).integers(0, 80, (num_classes, 3)).tolist()
    for label, colour in zip(labels, PALETTE, strict=True):
        palette[label] = colour
    visualizer.dataset_meta = dict(classes=tuple(f'class {label}' for label in range(num_classes)), palette=palette)
    truth = PixelData(metainfo=dict(labels=labels), segment_map=quarters([2, 1, 0, -1], torch.int16))
    # the last code of 200,000 classes is beyond int32
    codes = [labels[0] + offset, labels[1] + 2 * offset, labels[2] + 3000 * offset, num_classes]
    found = PixelData(sem_seg=quarters(codes, torch.int64))
    left, right = np.split(drawn(visualizer, sample_of(gt_panoptic_seg=truth, pred_panoptic_seg=found)), 2, axis=1)
    for side, order in ((left, [2, 1, 0]), (right, [0, 1, 2])):
        for (row, column), quarter in list(QUARTERS.items())[:3]:
            assert side[row, column].tolist() == PALETTE[order[quarter]]
        assert side[105, 140].tolist() == [90, 90, 90]
    assert sorted(written) == sorted(2 * [f'class {label}' for label in labels])


def test_ground_truth_and_prediction_have_the_colours_of_their_classes(visualizer):
    truth = PixelData(metainfo=dict(labels=(2, 0, 1)), segment_map=quarters([0, 1, 2, -1], torch.int16))
    found = PixelData(sem_seg=quarters([1001, 2001, 1000, 3]))
    before = truth.segment_map.clone()
    picture = drawn(visualizer, sample_of(gt_panoptic_seg=truth, pred_panoptic_seg=found))
    left, right = np.split(picture, 2, axis=1)
    void = [90, 90, 90]
    for side, labels in ((left, [2, 0, 1, None]), (right, [1, 1, 0, None])):
        for (row, column), quarter in QUARTERS.items():
            expected = void if labels[quarter] is None else PALETTE[labels[quarter]]
            assert side[row, column].tolist() == expected
    assert torch.equal(truth.segment_map, before)


def test_an_empty_result_is_the_plain_image(visualizer):
    nothing = PixelData(metainfo=dict(segments=[]), sem_seg=quarters([3, 3, 3, 3]))
    assert (drawn(visualizer, sample_of(pred_panoptic_seg=nothing)) == 90).all()


def test_void_that_mmdets_metric_overwrote_is_restored(visualizer):
    found = PixelData(metainfo=dict(segments=[dict(id=1001, label=1, score=1.0)]), sem_seg=quarters([1001, 0, 0, 0]))
    picture = drawn(visualizer, sample_of(pred_panoptic_seg=found))
    assert picture[12, 174].tolist() == PALETTE[1] and picture[105, 300].tolist() == [90] * 3


def test_labels_without_a_class_and_a_dataset_without_colours(visualizer):
    visualizer.dataset_meta = dict(classes=('sky', 'dog', 'cat'))
    labels = PixelData(metainfo=dict(ignore_index=3), sem_seg=quarters([1, 3, 3, 3]))
    picture = drawn(visualizer, sample_of(pred_sem_seg=labels))
    assert (picture[105, 300] == 90).all() and (picture[12, 174] != 90).any()


@pytest.mark.parametrize('palette', ['random', None, [], 'coco'])
def test_a_palette_by_name_or_none_gives_every_class_a_colour(visualizer, palette):
    visualizer.dataset_meta = dict(classes=['sky', 'dog', 'cat'], palette=palette)
    sample = sample_of(pred_panoptic_seg=PixelData(sem_seg=torch.full((1, 8, 8), 1001)))
    visualizer.add_datasample('a', np.zeros((8, 8, 3), np.uint8), sample, draw_gt=False)
    assert visualizer.get_image().any()


def test_a_palette_that_is_too_short_numbers_the_classes(visualizer):
    visualizer.dataset_meta = dict(classes=tuple(map(str, range(80))), palette=PALETTE)
    # 3, the number of classes of the model, is void
    codes = torch.tensor([[[3, 1001], [3, 2002]]]).repeat_interleave(80, 1).repeat_interleave(80, 2)
    with warnings_in_force() as said:
        for _ in range(2):
            visualizer.add_datasample(
                'a', np.zeros((160, 160, 3), np.uint8), sample_of(pred_panoptic_seg=PixelData(sem_seg=codes))
            )
    assert visualizer.dataset_meta['classes'] == ('class 0', 'class 1', 'class 2')
    [messages] = [text for text in said if 'class names' in text]
    assert "found 80 class names, '0' to '79', but 3 colours" in messages
    drawn = visualizer.get_image()[:, -160:]
    assert not drawn[:, :3].any() and drawn[:, 90:].any()
