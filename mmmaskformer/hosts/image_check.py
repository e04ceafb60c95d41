"""A hook that finds training images with inf or NaN, and stops the run or skips the step."""

import logging
from collections.abc import Mapping, Sequence

import cv2
import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmmaskformer.core.checks import checked, one_of
from mmmaskformer.registry import HOOKS

REFUSES_HALF_FILES = (4, 11)
"""First version of OpenCV that refuses truncated JPEG files."""


class NonFiniteImageError(FloatingPointError):
    """An image of a training batch holds inf or NaN."""


@HOOKS.register_module()
@checked(on_non_finite=one_of('stop', 'skip'))
class CheckImagesHook(Hook):
    """Checks the images of every training batch before the model uses them, since a NaN would spread to all weights.

    Batch norms would mix the NaN into all images of the batch, so the logits would not show which image it was.
    Integer images are not checked.

    Args:
        on_non_finite: 'stop' raises; 'skip' skips the whole step on all processes, with a warning. The iteration
            counts, weights and statistics of norm layers do not change, and the step does not count for gradient
            accumulation. With several processes, 'skip' exchanges one flag per step.

    Raises:
        ValueError: if ``on_non_finite`` has another value.
        NonFiniteImageError: in a training step, naming iteration, positions in the batch and files.
    """

    priority = 'HIGH'

    def __init__(self, on_non_finite: str = 'stop') -> None:
        self.on_non_finite = on_non_finite
        self.skipped = 0
        self._skipping = False

    def before_run(self, runner: Runner) -> None:
        """Warn of an OpenCV that reads truncated JPEG files silently."""
        version = tuple(int(part) for part in cv2.__version__.split('.')[:2])
        if version < REFUSES_HALF_FILES:
            print_log(
                f'OpenCV {cv2.__version__} reads truncated JPEG files silently, with grey in the missing '
                f'part; expected {".".join(map(str, REFUSES_HALF_FILES))} or newer, which refuses them. Fix: '
                "pip install 'opencv-python>=4.11'",
                logger='current',
                level=logging.WARNING,
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Mapping | None = None) -> None:
        """Check a batch.

        Raises:
            NonFiniteImageError: if an image holds inf or NaN, unless the step is skipped.
        """
        wrong = non_finite_images(data_batch)
        if wrong:
            files = ', '.join(f'image {image} of the batch ({file})' for image, file in wrong.items())
            text = f'iteration {runner.iter + 1}: inf or NaN in {files}'
            if self.on_non_finite == 'stop':
                raise NonFiniteImageError(
                    f'{text}. Fix: repair the file or the transform that creates the values, or skip these steps: '
                    "custom_hooks entry dict(type='mmmaskformer.CheckImagesHook', on_non_finite='skip')."
                )
            print_log(f'{text}: the step is skipped.', logger='current', level=logging.WARNING)
        if self.on_non_finite == 'skip' and _any_process(bool(wrong)):
            self.skipped += 1
            self._skipping = True
            runner.model.train_step = _no_step

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Restore the model's train_step after a skipped step."""
        if self._skipping:
            del runner.model.train_step  # uncovers the method of the class
            self._skipping = False

    def after_train(self, runner: Runner) -> None:
        """Log the number of skipped steps."""
        if self.skipped:
            print_log(
                f'{self.skipped} training steps were skipped because of images that hold inf or NaN.',
                logger='current',
                level=logging.WARNING,
            )


def non_finite_images(batch: Mapping | None) -> dict[int, str]:
    """Find images with inf or NaN in a batch of a data loader.

    Args:
        batch: ``inputs``, a list or stack of (bands, H, W) images, and optionally ``data_samples``.

    Returns:
        Files by position in the batch.
    """
    if not isinstance(batch, Mapping) or not isinstance(batch.get('inputs'), Sequence | torch.Tensor):
        return {}
    samples = batch.get('data_samples') or []
    wrong = [
        position
        for position, image in enumerate(batch['inputs'])
        if isinstance(image, torch.Tensor) and image.is_floating_point() and not image.isfinite().all()
    ]
    metas = [samples[position].metainfo if position < len(samples) else {} for position in wrong]
    return {position: str(meta.get('img_path', 'file not known')) for position, meta in zip(wrong, metas, strict=True)}


def _any_process(flag: bool) -> bool:
    """Whether ``flag`` is set in any process."""
    if get_world_size() == 1:
        return flag
    counts = torch.tensor(int(flag))
    all_reduce(counts)
    return bool(counts)


def _no_step(data, optim_wrapper) -> dict:
    """Replaces the model's ``train_step`` in a skipped step: trains and logs nothing."""
    return {}
