"""Checks of all annotations before the first step: outlines in stock datasets, and names of result files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmmaskformer.core.checks import checked
from mmmaskformer.datasets.pipelines import leaves_of
from mmmaskformer.hosts.metrics import all_metrics
from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
@checked()
class CheckAnnotationsHook(Hook):
    """Finds faults before the first step that would otherwise stop a run hours later, without naming the file.

    - An instance without an outline in a dataset of MMDetection, for which LoadAnnotations raises a KeyError.
      `mmmaskformer.CocoInstanceDataset` drops such instances.
    - An annotation that MMDetection's CocoMetric cannot evaluate; `mmmaskformer.CocoInstanceMetric` drops it.
    - Images whose results would get the same name, if a metric has ``check_images``, as `mmmaskformer.PanopticMetric`.

    Each dataset is read once: its entries, not its images.
    """

    def __init__(self) -> None:
        self._checked: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Check the training data."""
        _require_outlines(runner.train_dataloader.dataset, 'train_dataloader')

    def before_val(self, runner: Runner) -> None:
        """Check the validation data and the metrics that write results."""
        self._check(runner.val_dataloader.dataset, 'val_dataloader', list(all_metrics(runner.val_evaluator.metrics)))

    def before_test(self, runner: Runner) -> None:
        """Check the test data and the metrics that write results."""
        self._check(runner.test_dataloader.dataset, 'test_dataloader', list(all_metrics(runner.test_evaluator.metrics)))

    def _check(self, dataset, where: str, metrics: Sequence) -> None:
        if where in self._checked:
            return
        self._checked.add(where)
        _require_outlines(dataset, where)
        for metric in metrics:
            _require_measurable(metric)
        writing = [metric for metric in metrics if getattr(metric, 'writer', None) and hasattr(metric, 'check_images')]
        if not writing:
            return
        entries = [entry for part, _ in leaves_of(dataset) for entry in _entries(part)]
        for metric in writing:
            metric.check_images([row.get('img_id') for row in entries], [row.get('img_path') for row in entries])


def _require_measurable(metric) -> None:
    """Raise if MMDetection's CocoMetric would fail after the last image or count wrongly; see `CocoInstanceMetric`."""
    is_host_metric = any(cls.__name__ == 'CocoMetric' for cls in type(metric).__mro__)
    api = getattr(metric, '_coco_api', None) if is_host_metric else None
    rows = getattr(api, 'dataset', {}).get('annotations') or ()
    ids = Counter(row.get('id') for row in rows)
    measures_masks = 'segm' in getattr(metric, 'metrics', ())
    for row in rows:
        wrong = [key for key in ('area', 'iscrowd') if key not in row]
        wrong += ['id'] * (row.get('id') in (None, 0) or ids[row.get('id')] > 1)
        wrong += ['segmentation'] * (measures_masks and not _has_outline(row.get('segmentation')))
        if wrong:
            shown = {key: row.get(key) for key in ('id', 'image_id', *wrong)}
            raise ValueError(
                f'{type(metric).__name__}: annotation {shown!r:.200} of its ann_file cannot be evaluated: missing or '
                f"wrong {', '.join(wrong)}. Fix: use type='mmmaskformer.CocoInstanceMetric', which drops or "
                'completes such annotations, or repair the file.'
            )


def _has_outline(outline) -> bool:
    """Whether pycocotools can rasterise the outline; a polygon of two points has no area."""
    if isinstance(outline, Mapping):
        return bool(outline.get('counts'))
    return isinstance(outline, list) and bool(outline) and all(isinstance(p, list) and len(p) > 4 for p in outline)


def _entries(dataset) -> Iterator[dict]:
    read = getattr(dataset, 'get_data_info', None)
    return (read(index) for index in range(len(dataset))) if read else iter(())


def _require_outlines(dataset, where: str) -> None:
    """Raise if a pipeline loads masks that an instance does not have."""
    for part, transforms in leaves_of(dataset):
        if not any(getattr(transform, 'with_mask', False) for transform in transforms) or _has_checked(part):
            continue
        total, without, first = 0, 0, None
        for entry in _entries(part):
            for position, instance in enumerate(entry.get('instances') or ()):
                total += 1
                if 'mask' not in instance:
                    without += 1
                    first = first or f'{entry.get("img_path")}, instance {position}, box {instance.get("bbox")}'
        if without:
            raise ValueError(
                f'{where}: {type(part).__name__}: {without} of {total} instances of {getattr(part, "ann_file", "")} '
                f"have no outline ('segmentation' is empty or missing), the first: {first}. Fix: use "
                "type='mmmaskformer.CocoInstanceDataset', which drops them, or remove them from the file."
            )


def _has_checked(dataset) -> bool:
    """Whether the dataset has checked its outlines already, as ours do."""
    return type(dataset).__module__.startswith('mmmaskformer.')
