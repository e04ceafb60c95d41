"""The order of training samples and the random numbers of their augmentation, as functions of seed and position."""

import itertools
import random
from collections.abc import Iterator, Sequence, Sized

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler

from mmmaskformer.core.checks import BOOLEAN, checked, whole
from mmmaskformer.registry import DATA_SAMPLERS


class Draw(int):
    """Index of a sample, with its position in the infinite sequence of all samples of a run.

    Attributes:
        position: int, counted over all ranks.
        seed: seed of the run. It is stored in each sample, since data-loading workers may have been started before the
            seed of a resumed run was restored.
    """

    position: int
    seed: int

    def __new__(cls, index: int, position: int, seed: int) -> 'Draw':
        """Create the index."""
        draw = super().__new__(cls, index)
        draw.position, draw.seed = position, seed
        return draw

    def __reduce__(self):
        return Draw, (int(self), self.position, self.seed)


class SeededSamples:
    """Reads a batch of samples; numpy, Python and torch are seeded for the position of each sample.

    torch's data loader calls this instead of ``dataset[index]`` if it is the dataset's ``__getitems__``. Wrappers such
    as RepeatDataset, ConcatDataset and MultiImageMixDataset use the same generators, so their random choices depend on
    the position as well.

    Args:
        dataset: dataset of the data loader, including wrappers.
    """

    def __init__(self, dataset: Sequence):
        self.dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list:
        """Read the samples at ``indices``; an index that is not a `Draw` is read without seeding."""
        return [self._read(index) for index in indices]

    def _read(self, index: int):
        if isinstance(index, Draw):
            seed_augmentation(index.seed, index.position)
        return self.dataset[int(index)]


def seed_augmentation(seed: int, position: int) -> None:
    """Seed numpy, Python and torch on the CPU for one sample; takes about ten microseconds.

    Args:
        seed: of the run, >= 0.
        position: of the sample, >= 0.
    """
    words = np.random.SeedSequence([seed, position]).generate_state(4)
    np.random.seed(words)
    random.seed(words.tobytes())
    # not torch.manual_seed, which queues a callback at every call in a process without CUDA
    torch.default_generator.manual_seed(int(words[:2].view(np.uint64)[0]) >> 1)


@DATA_SAMPLERS.register_module()
@checked(shuffle=BOOLEAN, seed=whole(0).or_none(), by_epoch=BOOLEAN)
class ResumableSampler(InfiniteSampler):
    """The order of mmengine's InfiniteSampler or, by epoch, of its DefaultSampler, with a start at any sample.

    A resumed run does not read samples again, and its images equal those of an uninterrupted run for any number of
    data-loading workers. The constructor adds the method ``__getitems__`` to the dataset, see `SeededSamples`.
    Transforms with their own generator or cache (albumentations, CachedMosaic) are not covered.

    Args:
        dataset: dataset of the data loader.
        shuffle: whether each pass over the data has another order.
        seed: seed of the run; mmengine's runner sets it.
        by_epoch: for epoch-based training, ``train_cfg.by_epoch=True``: an iterator ends after a pass over the data.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, by_epoch: bool = False):
        super().__init__(dataset, shuffle, seed)
        self.start = 0
        self.by_epoch = by_epoch
        self.epoch = 0
        dataset.__getitems__ = SeededSamples(dataset)

    def start_at(self, start: int) -> None:
        """Start the next iterator after ``start`` samples of all ranks together; by epoch, of the pass.

        Args:
            start: number of samples; it need not be a multiple of the number of ranks.
        """
        self.start = start

    def set_epoch(self, epoch: int) -> None:
        """Set the pass over the data of the next iterator; called by mmengine's DistSamplerSeedHook."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Samples in a pass over the data: of all ranks, or by epoch of this one."""
        return -(-self.size // self.world_size) if self.by_epoch else self.size

    def __iter__(self) -> Iterator[Draw]:
        """Yield the samples of this rank, infinitely or, by epoch, for one pass."""
        return self._of_pass() if self.by_epoch else self._without_end()

    def _of_pass(self) -> Iterator[Draw]:
        """The order of mmengine's DefaultSampler, which repeats the first samples until all ranks have equally many."""
        start, self.start = self.start, 0  # later passes are complete
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.size, generator=generator) if self.shuffle else torch.arange(self.size)
        total = len(self) * self.world_size
        rest = -(-max(total - start, 0) // self.world_size) * self.world_size  # as many samples for each rank
        for number in range(start + self.rank, start + rest, self.world_size):
            yield Draw(int(order[number % self.size]), self.epoch * total + number, self.seed)

    def _without_end(self) -> Iterator[Draw]:
        position = self.rank + self.start
        first_pass, skipped = divmod(position, self.size)
        passes = itertools.islice(self._passes(), first_pass, None)
        indices = itertools.islice(itertools.chain.from_iterable(passes), skipped, None, self.world_size)
        for index in indices:
            yield Draw(index, position, self.seed)
            position += self.world_size

    def _passes(self) -> Iterator[list[int]]:
        """The order of each pass over the data; a skipped pass costs a permutation, some milliseconds."""
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        while True:
            order = torch.randperm(self.size, generator=generator) if self.shuffle else torch.arange(self.size)
            yield order.tolist()
