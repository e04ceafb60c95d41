"""A hook that draws predictions while a model is validated or tested; a registry location for `HOOKS`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmmaskformer.core.checks import PATH, TEXT, checked, whole
from mmmaskformer.formats.whole_files import require_writable
from mmmaskformer.registry import HOOKS
from mmmaskformer.visualization.samples import (
    class_list_of,
    read_example,
    require_field,
    spread_indices,
    write_pictures,
)
from mmmaskformer.visualization.sheet import Example


@HOOKS.register_module()
@checked(
    num=whole(1),
    interval=whole(1),
    field=TEXT.or_none(),
    out_dir=PATH.or_none(),
)
class DrawPredictionsHook(Hook):
    """Draws image, ground truth and prediction of some images in each validation and test, with either host.

    The images are spread evenly over the data and are the same each time, so that they show the progress. Each becomes
    a file in ``OUT_DIR/iter_N`` (``OUT_DIR/test`` in a test). overview.png shows up to four of them and is also sent to
    the runner's visualizer as 'val_predictions' or 'test_predictions', for example for TensorBoard. With several
    processes the first one draws, from its share of the data.

    Args:
        num: number of images in each validation.
        interval: draw in every ``interval``-th validation; a test is always drawn.
        field: field of the prediction to draw if the model gives several, see `mmmaskformer.heads.results`. None takes
            the first available one of panoptic, semantic, instances.
        out_dir: folder for the pictures; None takes 'pictures' in the work dir.

    Raises:
        ValueError: if a value is invalid; when it draws, if the predictions or the data cannot be drawn.
    """

    priority = 'LOW'

    def __init__(
        self, num: int = 8, interval: int = 1, field: str | None = None, out_dir: str | Path | None = None
    ) -> None:
        require_field(field)
        self.num = num
        self.interval = interval
        self.field = field
        self.out_dir = None if out_dir is None else Path(out_dir)
        self._validations = 0
        self._chosen: set[int] = set()
        self._seen = 0
        self._examples: list[tuple[str, Example]] = []

    def before_run(self, runner: Runner) -> None:
        """Check that the folder is writable."""
        require_writable(self._folder(runner), 'DrawPredictionsHook.out_dir', folder=True)

    def _folder(self, runner: Runner) -> Path:
        return self.out_dir or Path(runner.work_dir) / 'pictures'

    def before_val_epoch(self, runner: Runner) -> None:
        """Select the images of this validation."""
        self._validations += 1
        self._start(runner.val_dataloader if self._validations % self.interval == 0 else None)

    def before_test_epoch(self, runner: Runner) -> None:
        """Select the images of this test."""
        self._start(runner.test_dataloader)

    @master_only
    def _start(self, loader) -> None:
        self._chosen = set() if loader is None else set(spread_indices(len(loader.sampler), self.num))
        self._seen, self._examples = 0, []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        """Store the selected images of a batch."""
        self._collect(runner.val_dataloader, outputs)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        """Store the selected images of a batch."""
        self._collect(runner.test_dataloader, outputs)

    @master_only
    def _collect(self, loader, outputs: Sequence) -> None:
        for number, sample in enumerate(outputs, start=self._seen):
            if number in self._chosen:
                self._examples.append(read_example(sample, class_list_of(loader.dataset), self.field))
        self._seen += len(outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw."""
        self._draw(runner, runner.val_dataloader, 'val', f'iter_{runner.iter}')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Draw."""
        self._draw(runner, runner.test_dataloader, 'test', 'test')

    @master_only
    def _draw(self, runner: Runner, loader, stage: str, folder: str) -> None:
        if not self._examples:
            return
        files = write_pictures(self._examples, class_list_of(loader.dataset), self._folder(runner) / folder)
        self._examples = []
        runner.visualizer.add_image(f'{stage}_predictions', np.asarray(Image.open(files[-1])), runner.iter)
