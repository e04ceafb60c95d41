"""A metric that contains others, so that an evaluator with several metrics is a single dict in a config."""

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS as ROOT_METRICS

from mmmaskformer.core.checks import BOOLEAN, MAPPING, TEXT, checked, one_of
from mmmaskformer.evaluation.common import require_form


@checked(
    field=TEXT,
    classwise=BOOLEAN,
    format_only=BOOLEAN,
    backend_args=MAPPING.or_none(),
    collect_device=one_of('cpu', 'gpu'),
    prefix=TEXT.or_none(),
)
class MetricWithOthers(BaseMetric):
    """Base of our metrics: one metric, and others that evaluate the same predictions.

    The hosts' scripts and ``--cfg-options test_evaluator.KEY=VALUE`` treat ``test_evaluator`` as a dict and fail for a
    list of metrics. With further metrics in ``also``, the evaluator stays a dict with the keys of the first metric:
    ``test_evaluator.classwise=True`` and, for the others, ``test_evaluator.also.0.classwise=True``.

    Args:
        field: field of the data samples with the prediction.
        classwise: also print a row for each class.
        destination: where results are written; None writes nothing.
        format_only: only write results, without evaluation, for a test set without annotations.
        backend_args: as in `mmengine.fileio.get`, for ground truth that is not on disk.
        collect_device: 'cpu' or 'gpu', how the processes of a distributed test exchange results.
        prefix: prefix of the keys of the results; None for ``default_prefix``.
        also: other metrics or their configs, of any package; None for none. Their results are added to the same dict.

    Raises:
        TypeError: if ``also`` is not a list.
        ValueError: if ``format_only`` has no destination, or ``field`` is that of a result of another form.
    """

    forms: Sequence[str] = ()
    """Forms of results that the metric reads, see `mmmaskformer.heads.results.ResultKind`."""
    destination_key = ''
    """Name of the argument with the destination, for messages."""

    def __init__(
        self,
        *,
        field: str,
        classwise: bool,
        destination: str | None,
        format_only: bool = False,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        also: Sequence[dict | BaseMetric] | None = None,
    ) -> None:
        name = type(self).__name__
        require_form(name, field, self.forms)
        if format_only and destination is None:
            raise ValueError(
                f'{name}: found format_only=True without {self.destination_key}, expected where to write. Fix: set '
                f"{self.destination_key}, such as 'work_dirs/results'."
            )
        self.field = field
        self.classwise = classwise
        self.format_only = format_only
        self.backend_args = backend_args
        if also is not None and not (
            isinstance(also, list | tuple) and all(isinstance(metric, dict | BaseMetric) for metric in also)
        ):
            raise TypeError(f'{name}.also: found {also!r}, expected a list of metrics. Fix: also=[...]')
        self.also: list[BaseMetric] = [ROOT_METRICS.build(m) if isinstance(m, dict) else m for m in also or ()]
        super().__init__(collect_device=collect_device, prefix=prefix)

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the dataset, for this metric and the others."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        for metric in self.also:
            metric.dataset_meta = dataset_meta

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Read the predictions of a batch.

        Args:
            data_batch: passed to the other metrics.
            data_samples: data samples as dicts.
        """
        for sample in data_samples:
            self.results.append(self.process_sample(sample))
        for metric in self._others():
            metric.process(data_batch, data_samples)

    def process_sample(self, sample: dict) -> tuple:
        """Extract what `compute_metrics` needs from one data sample."""
        raise NotImplementedError

    def evaluate(self, size: int) -> dict[str, float]:
        """The results of this metric and of the others.

        Args:
            size: number of images.

        Raises:
            ValueError: if two metrics have a result with the same key.
        """
        found = super().evaluate(size)
        for metric in self._others():
            more = metric.evaluate(size)
            twice = sorted(found.keys() & more.keys())
            if twice:
                raise ValueError(
                    f'{type(self).__name__}.also: {type(metric).__name__} also reports {twice}; expected different '
                    "keys. Fix: give one of them a prefix=..., such as prefix='second'."
                )
            found |= more
        return found

    def _others(self) -> list[BaseMetric]:
        """The other metrics; without ground truth, only those that write results."""
        if not self.format_only:
            return self.also
        left_out = [type(metric).__name__ for metric in self.also if not getattr(metric, 'format_only', False)]
        if left_out and not self._logged_left_out:
            self._logged_left_out = True
            print_log(f'{type(self).__name__}: format_only=True, so {left_out} in `also` are skipped', 'current')
        return [metric for metric in self.also if getattr(metric, 'format_only', False)]

    _logged_left_out = False
