"""mmengine hooks that our runtime base switches on."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds torch before each training iteration from the run's seed, the rank and the iteration.

    Dropout and drop-path then depend on nothing that came before, so that a run resumed from a checkpoint gives the
    same losses as one that was never interrupted. The order and augmentation of the data repeat by themselves:
    mmengine advances the data loader on resume. The price is some ten microseconds an iteration.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed torch on all devices."""
        torch.manual_seed(hash((runner.seed, get_rank(), runner.iter)) % 2**63)


@HOOKS.register_module()
class DataSeedHook(Hook):
    """Seeds numpy and Python once before training, after the model was built and initialised.

    Without data-loading workers the augmentation draws from the generators of the main process, which the start-up of
    a resumed run leaves in another state than that of a fresh run.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Seed the generators of this process."""
        seed = (runner.seed + get_rank()) % 2**32
        random.seed(seed)
        np.random.seed(seed)


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Compares the class list of each dataset with the model before the first step."""

    def before_train(self, runner: Runner) -> None:
        """Check the training data."""
        self._check(runner, runner.train_dataloader.dataset, 'train_dataloader')

    def before_val(self, runner: Runner) -> None:
        """Check the validation data."""
        self._check(runner, runner.val_dataloader.dataset, 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Check the test data."""
        self._check(runner, runner.test_dataloader.dataset, 'test_dataloader')

    @staticmethod
    def _check(runner: Runner, dataset, where: str) -> None:
        """Raise a `ValueError` if the number of classes differs."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        num_classes = getattr(model, 'num_classes', None)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        if num_classes is None or classes is None or len(classes) == num_classes:
            return
        raise ValueError(
            f'{where}: {type(dataset).__name__} has {len(classes)} classes, but the model has '
            f'num_classes={num_classes}. Fix: set model.decode_head.num_classes={len(classes)}.'
        )
