"""An mmengine hook that checks the data files of a run before its first step."""

import logging
from collections.abc import Mapping, Sequence
from os import path as osp
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmmaskformer.core.checks import checked
from mmmaskformer.datasets.inspection import image_paths, image_root, input_paths, inspect_data
from mmmaskformer.formats.label_maps import result_name
from mmmaskformer.hosts.metrics import all_metrics
from mmmaskformer.hosts.windows import require_windows
from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
@checked()
class CheckDataHook(Hook):
    """Inspects a sample of the files of each data loader, and checks the file names of results.

    Before training and testing, the first process reads a sample of the label maps and of the image headers, in about a
    second. It logs classes that are in no label map, the share of ignored pixels, images that lose bits or bands on
    loading, and images whose EXIF orientation may differ from their annotations.

    Metrics that write label maps are set to keep the folders of the images; if two images would still get the same
    file, the run is refused. Sliding windows must cover the images.

    Raises:
        ValueError: before the first step, from `inspect_data` and `require_windows`, or if two results would get the
            same file.
    """

    def __init__(self) -> None:
        self._inspected: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Check training and validation data and the sliding windows of the validation."""
        _require_windows(runner)
        self._inspect('train_dataloader', runner.train_dataloader)
        if runner.val_loop is not None:
            self._inspect('val_dataloader', runner.val_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Check the validation data, unless done before training, and the file names of results."""
        self._inspect('val_dataloader', runner.val_dataloader)
        name_results(runner.val_dataloader.dataset, list(all_metrics(runner.val_evaluator.metrics)))

    def before_test(self, runner: Runner) -> None:
        """Check the test data, the file names of results, and that pictures do not replace images."""
        _require_windows(runner)
        _require_other_folder(runner)
        self._inspect('test_dataloader', runner.test_dataloader)
        name_results(runner.test_dataloader.dataset, list(all_metrics(runner.test_evaluator.metrics)))

    def _inspect(self, where: str, dataloader: Any) -> None:
        if where in self._inspected or not is_main_process():
            return
        self._inspected.add(where)
        dataset = dataloader.dataset
        for found in inspect_data(dataset):
            level = logging.WARNING if found.is_warning else logging.INFO
            print_log(f'{where}: {type(dataset).__name__}: {found.text}', logger='current', level=level)


def _require_windows(runner: Runner) -> None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model = model.module if isinstance(model, BaseTTAModel) else model
    test_cfg = getattr(model, 'test_cfg', None)
    if isinstance(test_cfg, Mapping):
        require_windows(test_cfg)


def _require_other_folder(runner: Runner) -> None:
    """Raise if MMDetection's hook would draw into a folder of the dataset; its pictures have the names of images."""
    drawing = [hook for hook in getattr(runner, 'hooks', ()) if getattr(hook, 'draw', False)]
    for folder in filter(None, (getattr(hook, 'test_out_dir', None) for hook in drawing)):
        # joined as in the hook
        folder = osp.realpath(osp.join(runner.work_dir, runner.timestamp, folder))
        dataset = runner.test_dataloader.dataset
        found = next((path for path in input_paths(dataset) if osp.dirname(osp.realpath(path)) == folder), None)
        if found is not None:
            raise ValueError(
                f'pictures in {folder} could replace files of the dataset, such as {found}. Fix: choose another '
                'folder to draw into (--show-dir).'
            )


def name_results(dataset: Any, metrics: Sequence) -> None:
    """Let our metrics keep the folders of the images, and check that each image gets its own file.

    Args:
        dataset: dataset of the data loader, with or without wrappers.
        metrics: metrics of the evaluator; those that write one file per image are checked. `PanopticMetric` always
            keeps folders, and its names are checked by `CheckAnnotationsHook`.

    Raises:
        ValueError: if two images would get the same file, or a result would replace a file of the dataset.
    """
    for metric in metrics:
        keeps_folders = hasattr(metric, 'image_root')
        if keeps_folders:
            metric.image_root = image_root(dataset)
        folder = _folder_of_results(metric)
        if folder is not None:
            root = metric.image_root if keeps_folders else None
            _require_own_files(image_paths(dataset), root, type(metric).__name__, keeps_folders)
            _require_no_input(folder, root, dataset, type(metric).__name__)


def _folder_of_results(metric: Any) -> str | None:
    """The folder into which a metric writes one file per image; None if it does not."""
    if getattr(metric, 'output_dir', None) is not None:
        return str(metric.output_dir)
    # MMDetection's CocoPanopticMetric; without outfile_prefix it reads each file before it writes the next
    is_kept = getattr(metric, 'tmp_dir', None) is None
    return getattr(metric, 'seg_out_dir', None) if is_kept else None


def _require_own_files(images: Sequence[str], root: str | None, metric: str, keeps_folders: bool) -> None:
    image_of: dict[str, str] = {}
    for image in images:
        name = result_name(image, root)
        other = image_of.setdefault(name, image)
        if other != image:
            fix = 'rename one of the images'
            if not keeps_folders:
                fix = (
                    'rename the images, or test each folder separately; mmmaskformer.SemanticMetric and '
                    'mmmaskformer.PanopticMetric keep the folders'
                )
            raise ValueError(
                f'{metric} would write the results of {other} and {image} to the same file, {name}. Fix: {fix}.'
            )


def _require_no_input(folder: str, root: str | None, dataset: Any, metric: str) -> None:
    """Raise if a result would replace an image or an annotation of the dataset."""
    inputs = {osp.realpath(path): path for path in input_paths(dataset)}
    for image in image_paths(dataset):
        file = osp.join(folder, result_name(image, root))
        replaced = inputs.get(osp.realpath(file))
        if replaced is not None:
            raise ValueError(
                f'{metric} would write the result of {image} to {file}, which is a file of the dataset. Fix: choose '
                'another folder for the results (--out, test_evaluator.output_dir).'
            )
