"""Training on generated scenes with the fast and the plain step gives the same result from the same seed."""

import numpy as np
import pytest
import torch
from helpers import plain, toy
from torch import nn

from mmmaskformer.core.training.targets import semantic_targets
from mmmaskformer.datasets.scenes.scenes import CLASSES, make_scene

ITERATIONS = 50


class Backbone(nn.Module):
    """Four strided convolutions with one feature map each."""

    def __init__(self):
        super().__init__()
        widths = [3 * 16, *toy.IN_CHANNELS]
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2 if level else 1, padding=1)
            for level, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )

    def forward(self, images):
        x, features = nn.functional.pixel_unshuffle(images, 4), []
        for conv in self.convs:
            x = conv(x).relu()
            features.append(x)
        return features


def batches(dtype):
    generator = np.random.default_rng(0)
    for _ in range(ITERATIONS):
        scenes = [make_scene(generator, (64, 96)) for _ in range(2)]
        images = torch.from_numpy(np.stack([scene.image for scene in scenes])).movedim(-1, 1).to(dtype) / 128 - 1
        labels = torch.from_numpy(np.stack([scene.semantic for scene in scenes]))
        yield images, semantic_targets(labels, num_classes=len(CLASSES))


def losses_of_a_run(dtype, *, fast):
    torch.manual_seed(0)
    backbone, model = Backbone().to(dtype), toy.make_classifier(len(CLASSES), num_queries=12).to(dtype)
    criterion = toy.make_criterion(len(CLASSES))
    parameters = [*backbone.parameters(), *model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    totals = []
    for images, targets in batches(dtype):
        features = backbone(images)
        if fast:
            losses = criterion(model(features, all_layers=True), targets)
        else:
            losses, _ = plain.losses(*plain.forward(model, features), targets)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        totals.append(total.detach())
    return torch.stack(totals)


@pytest.fixture
def one_thread():
    """With more threads, the order of additions depends on the machine, and training amplifies rounding differences."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize('dtype, limit', [(torch.float64, 1e-9), (torch.float32, 1e-2)])
@pytest.mark.usefixtures('one_thread')
def test_fast_and_plain_training_have_the_same_losses(dtype, limit):
    fast, slow = (losses_of_a_run(dtype, fast=fast) for fast in (True, False))
    torch.testing.assert_close(fast, slow, rtol=limit, atol=0)
    assert fast[-5:].mean() < 0.9 * fast[:5].mean()
