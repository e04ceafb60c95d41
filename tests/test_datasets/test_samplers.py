"""Order and augmentation of the training samples depend only on seed and position."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from helpers.toy_runs import Points
from mmengine.dataset import ConcatDataset, DefaultSampler, InfiniteSampler, RepeatDataset
from torch.utils.data import DataLoader

from mmmaskformer.datasets.samplers import Draw, ResumableSampler, seed_augmentation


def first(sampler, count: int) -> list[int]:
    return list(itertools.islice(sampler, count))


@pytest.fixture
def ranks(monkeypatch):
    """Set the rank and the number of processes that mmengine's sampler sees."""
    return lambda rank, world: monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world))


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('rank, world', [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_the_order_is_that_of_mmengine(ranks, rank, world, shuffle):
    ranks(rank, world)
    sampler = ResumableSampler(Points(), shuffle=shuffle, seed=3)
    expected = first(InfiniteSampler(Points(), shuffle=shuffle, seed=3), 40)
    assert first(sampler, 40) == expected
    for start in (1, 7, 8, 25):
        sampler.start_at(start * world)
        draws = first(sampler, 40 - start)
        assert draws == expected[start:]
        assert [draw.position for draw in draws] == [rank + world * step for step in range(start, 40)]


@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('rank, world', [(0, 1), (0, 2), (1, 2), (2, 3)])
def test_by_epoch_the_order_is_that_of_mmengine(ranks, rank, world, shuffle):
    ranks(rank, world)
    sampler = ResumableSampler(Points(), shuffle=shuffle, seed=3, by_epoch=True)
    theirs = DefaultSampler(Points(), shuffle=shuffle, seed=3)
    positions = []
    for epoch in range(3):
        sampler.set_epoch(epoch), theirs.set_epoch(epoch)
        draws = list(sampler)
        assert draws == list(theirs) and len(draws) == len(sampler) == len(theirs)
        positions += [draw.position for draw in draws]
        sampler.start_at(2 * world)
        assert [draw.position for draw in sampler] == positions[-len(draws) :][2:]
    assert positions == [rank + world * step for step in range(len(positions))]
    assert list(sampler) == list(theirs)  # only the first pass after `start_at` is shortened


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('start', [0, 1, 3, 4, 5, 7])
def test_any_number_of_ranks_continues_after_any_number_of_samples(ranks, start, by_epoch):
    """A run in one process, stopped after an odd number of samples, continues in two; none is skipped or repeated."""
    order = first(ResumableSampler(Points(), seed=3), 7)
    of_ranks = []
    for rank in (0, 1):
        ranks(rank, 2)
        sampler = ResumableSampler(Points(), seed=3, by_epoch=by_epoch)
        sampler.start_at(start)
        of_ranks.append(list(sampler) if by_epoch else first(sampler, 4))
    assert len(of_ranks[0]) == len(of_ranks[1])
    found = [draw for pair in zip(*of_ranks, strict=True) for draw in pair]
    assert [draw.position for draw in found] == list(range(start, start + len(found)))
    assert found[: 7 - start] == order[start:] and len(found) >= 7 - start


def test_a_draw_keeps_its_position_on_the_way_to_a_worker():
    draw = pickle.loads(pickle.dumps(Draw(4, 123456789012, 5)))
    assert draw == 4 and (draw.position, draw.seed) == (123456789012, 5)


def generators():
    return np.random.rand(), random.random(), float(torch.rand(()))


def test_each_position_and_seed_has_its_own_random_numbers():
    drawn = set()
    for seed, position in itertools.product((0, 1, 2**31), (0, 1, 2, 10**9)):
        torch.rand(5), np.random.rand(3)
        seed_augmentation(seed, position)
        values = generators()
        seed_augmentation(seed, position)
        assert values == generators()
        drawn.update(values)
    assert len(drawn) == 3 * 4 * 3


def batches(dataset, workers: int, start: int, count: int) -> list[torch.Tensor]:
    sampler = ResumableSampler(dataset, seed=3)
    sampler.start_at(start)
    loader = DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=list)
    torch.rand(start), np.random.rand(start)  # earlier random numbers must not matter
    return [torch.stack([sample['inputs'] for sample in batch]) for batch in itertools.islice(loader, count)]


@pytest.mark.parametrize(
    'wrap', [lambda data: data, lambda data: RepeatDataset(data, 2), lambda data: ConcatDataset([data, data])]
)
def test_images_are_the_same_with_any_number_of_workers_and_after_any_start(wrap):
    expected = batches(wrap(Points()), workers=0, start=0, count=6)
    assert len({tuple(row) for row in torch.cat(expected).tolist()}) == 12
    assert torch.equal(torch.stack(batches(wrap(Points()), workers=2, start=0, count=6)), torch.stack(expected))
    assert torch.equal(torch.stack(batches(wrap(Points()), workers=1, start=6, count=3)), torch.stack(expected[3:]))


class Mix:
    """A wrapper that chooses a second sample at random, like the hosts' MultiImageMixDataset."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        other = self.dataset[random.randrange(len(self))]
        return dict(inputs=self.dataset[index]['inputs'] + other['inputs'])


def test_choices_of_a_wrapper_depend_on_the_position():
    expected = batches(Mix(Points()), workers=0, start=0, count=4)
    assert torch.equal(torch.stack(batches(Mix(Points()), workers=2, start=4, count=2)), torch.stack(expected[2:]))
