"""The table of results of a model in MMDetection's detector: one row for each entry of ``test_cfg``.

The fusion head, test-time augmentation, pictures and metrics read this table. A user-defined result is one more row::

    from mmmaskformer.heads.results import SEMANTIC, ResultKind, register_result

    def thing_labels(class_logits, masks, *, is_thing, object_threshold=0.5):
        ...  # (H, W) labels at masks.out_size, K where there is none

    register_result(ResultKind('thing_labels', thing_labels, field='pred_thing_labels', form=SEMANTIC))

In the config, import that file (``custom_imports = dict(imports=['my_results'])``) and request it: ``model =
dict(test_cfg=dict(thing_labels=dict(object_threshold=0.3)))``.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmmaskformer.core.checks import Check
from mmmaskformer.core.inference.checks import SETTINGS
from mmmaskformer.core.inference.detr import detr_inference
from mmmaskformer.core.inference.instance import InstanceResult, instance_inference
from mmmaskformer.core.inference.labels.search import label_map, semantic_labels
from mmmaskformer.core.inference.labels.views import score_view
from mmmaskformer.core.inference.panoptic import (
    QuerySegments,
    general_inference,
    panoptic_query_segments,
)
from mmmaskformer.core.inference.pooling import SegmentPool
from mmmaskformer.core.inference.queries import confident_queries, highest_class_probability
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.segments import Segments
from mmmaskformer.formats.mmdet_codes import encode_panoptic
from mmmaskformer.heads.data_samples import SegmentList

PANOPTIC, SEMANTIC, INSTANCES = 'panoptic', 'semantic', 'instances'


class Classes(NamedTuple):
    """The properties of the classes that packing needs.

    Attributes:
        num_classes: K.
        is_thing: (K,) bool.
    """

    num_classes: int
    is_thing: Tensor


class ViewMerger(Protocol):
    """Merges the views of one image in test-time augmentation; constructed with the settings of the result."""

    def add(self, class_logits: Tensor, masks: QueryMasks) -> None:
        """Add a view: class logits (Q, K + 1), and masks at the size of the image file, mirrored back."""

    def result(self) -> Any:
        """The merged result of the views so far, in the form that ``infer`` returns."""


@dataclass(frozen=True)
class ResultKind:
    """One kind of result.

    Attributes:
        name: name of the entry of ``test_cfg`` that requests it.
        infer: computes the result of one image from class logits (Q, K + 1) and `QueryMasks`, at ``masks.out_size``.
            Its keyword-only arguments are the settings, with defaults; ``is_thing``, (K,) bool, is not a setting.
        field: field of the data sample that holds it.
        form: `PANOPTIC`, `SEMANTIC` or `INSTANCES`, see `PACKERS` for the corresponding type that ``infer`` returns;
            determines how the result is packed, drawn and measured. None for a result that is neither drawn nor
            measured by our metrics.
        pack: converts the result to the form of the host's data samples, ``pack(found, Classes(...))``; the function of
            the form if None.
        merge: creates a `ViewMerger` from the settings, for test-time augmentation; None if views cannot be merged.
        stands_in_for: a field that it fills as well if no other requested result does, for the hosts' metrics.
        defaults: settings that differ from the defaults of ``infer``.
        checks: type and range of settings, by name. A user-defined result may use the names of our settings for
            something else.
        why_empty: explains why a result is empty, ``why_empty(found, class_logits, settings, key)`` with the full
            settings and their config key; returns None if the result is not empty. The first explanation of a run is
            logged, and each one is kept in the packed result's metainfo as ``why_empty``, which pictures show.

    Raises:
        ValueError: if ``form`` is unknown and there is no ``pack``.
    """

    name: str
    infer: Callable
    field: str
    form: str | None = None
    pack: Callable[[Any, Classes], Any] | None = None
    merge: Callable[..., ViewMerger] | None = None
    stands_in_for: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)
    why_empty: Callable[[Any, Tensor, Mapping, str], str | None] | None = None

    def __post_init__(self):
        if self.form not in (None, *PACKERS) or (self.form is None and self.pack is None):
            raise ValueError(
                f"result '{self.name}': found form={self.form!r} and pack={self.pack}, expected one of the forms "
                f'{list(PACKERS)}, or form=None and a function pack'
            )
        if self.pack is None:
            object.__setattr__(self, 'pack', PACKERS[self.form])

    @property
    def setting_names(self) -> set[str]:
        """Names of the settings of an entry of ``test_cfg``."""
        parameters = inspect.signature(self.infer).parameters.values()
        return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {'is_thing'}

    @property
    def takes_things(self) -> bool:
        """Whether ``infer`` takes ``is_thing``."""
        return 'is_thing' in inspect.signature(self.infer).parameters

    def full_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings, with the defaults of those that are omitted."""
        parameters = inspect.signature(self.infer).parameters
        return {name: settings.get(name, parameters[name].default) for name in self.setting_names}


_KINDS: dict[str, ResultKind] = {}


def register_result(kind: ResultKind) -> ResultKind:
    """Add a kind of result to the table.

    Raises:
        ValueError: if another kind has its name or field.
    """
    for other in _KINDS.values():
        for key in ('name', 'field'):
            if getattr(other, key) == getattr(kind, key) and other != kind:
                raise ValueError(
                    f"result '{kind.name}': {key}={getattr(kind, key)!r} is taken by the result '{other.name}'. Fix: "
                    'choose another; to fill a field that a metric reads, set stands_in_for'
                )
    _KINDS[kind.name] = kind
    return kind


def result_kinds() -> Mapping[str, ResultKind]:
    """All kinds by name, in the order of registration, which is the order of preference for pictures."""
    return MappingProxyType(_KINDS)


def kind_of_field(name: str) -> ResultKind | None:
    """The kind that a field of data samples holds; None if the field is not ours."""
    return next((kind for kind in _KINDS.values() if kind.field == name), None)


class ScoreViews:
    """Averages the class scores of the views of one image; returns labels (H, W) int32.

    Args:
        settings: settings of `score_view`.
    """

    def __init__(self, **settings):
        self._settings = settings
        self._views = []

    def add(self, class_logits: Tensor, masks: QueryMasks) -> None:
        """Add a view."""
        self._views.append(score_view(class_logits, masks, **self._settings))

    def result(self) -> Tensor:
        """The arg-max of the mean."""
        return label_map(self._views)


def pack_labels(labels: Tensor, classes: Classes) -> PixelData:
    """A label map in the host's form.

    Args:
        labels: (H, W) integer; K and above mean no class.
        classes: classes of the model.

    Returns:
        ``sem_seg`` (1, H, W) int32 and ``ignore_index`` K, which the host does not draw. Without it, the host would
        omit 255, which is a class if K is larger, and fail at K.
    """
    return PixelData(metainfo=dict(ignore_index=classes.num_classes), sem_seg=labels[None].to(torch.int32))


def pack_panoptic(result: Segments | QuerySegments, classes: Classes) -> PixelData:
    """A panoptic result in the host's form: ``sem_seg`` (1, H, W) int32, see `encode_panoptic`; K for void.

    Args:
        result: result of one image.
        classes: classes of the model.

    Returns:
        The map, with the list ``segments``: id in the map, label and score of each.
    """
    rows = QuerySegments.of(result)
    encoded, codes = encode_panoptic(rows, classes.is_thing)
    return PixelData(metainfo=dict(segments=SegmentList(rows, codes)), sem_seg=encoded[None])


def pack_instances(result: InstanceResult, classes: Classes) -> InstanceData:
    """Instances in the host's form: ``bboxes``, ``labels``, ``scores`` and ``masks``."""
    labels, scores, binary, boxes = result
    return InstanceData(bboxes=boxes, labels=labels, scores=scores, masks=binary)


def why_no_segments(
    result: Segments | QuerySegments, class_logits: Tensor, settings: Mapping[str, Any], key: str
) -> str | None:
    """Name the threshold because of which an image has no segments.

    Confident queries that all lose too much of their masks to others are detected only on a CPU, since a GPU would have
    to synchronise.

    Args:
        result: result of the image.
        class_logits: (Q, K + 1) of the image.
        settings: ``object_threshold``, and ``min_area`` or ``overlap_threshold``.
        key: config key of the settings.

    Returns:
        One or two sentences, with the key to change; None if there are segments.
    """
    starts = QuerySegments.of(result).starts
    if len(starts) and (starts.device.type != 'cpu' or starts.any()):
        return None
    highest, threshold = float(highest_class_probability(class_logits)), settings['object_threshold']
    if highest <= threshold:
        return (
            f'0 of {len(class_logits)} queries are above {key}.object_threshold={threshold}; the highest class '
            f'probability is {highest:.3f}. Unless the model is untrained, lower that threshold.'
        )
    if not len(confident_queries(class_logits, threshold)[0]):
        return (
            f'the highest class probability of a query is {highest:.3f}, but "no object" is more probable in every '
            f'query, which no threshold changes ({key}.object_threshold={threshold} is not the reason). Train longer.'
        )
    second = 'min_area' if 'min_area' in settings else 'overlap_threshold'
    lost = 'is left with fewer pixels than' if second == 'min_area' else 'keeps a smaller part of its own mask than'
    return (
        f'there are queries above {key}.object_threshold={threshold} (the highest class probability is {highest:.3f}), '
        f'but each {lost} {key}.{second}={settings[second]}. Unless the model is untrained, lower that threshold.'
    )


PACKERS: dict[str, Callable[[Any, Classes], Any]] = {
    PANOPTIC: pack_panoptic,
    SEMANTIC: pack_labels,
    INSTANCES: pack_instances,
}
"""The forms of results: `Segments` or `QuerySegments`, one per class of stuff; labels (H, W); `InstanceResult`."""

# Unwrapped, since the heads check the logits of the whole batch, with a single synchronisation.
for built_in in (
    ResultKind(
        'panoptic',
        panoptic_query_segments,
        field='pred_panoptic_seg',
        form=PANOPTIC,
        merge=SegmentPool,
        checks=SETTINGS,
        why_empty=why_no_segments,
    ),
    ResultKind(
        'detr',
        inspect.unwrap(detr_inference),
        field='pred_detr_seg',
        form=PANOPTIC,
        stands_in_for='pred_panoptic_seg',
        checks=SETTINGS,
        why_empty=why_no_segments,
    ),
    ResultKind(
        'semantic',
        inspect.unwrap(semantic_labels),
        field='pred_sem_seg',
        form=SEMANTIC,
        merge=ScoreViews,
        # Panoptic models resize masks before they combine them, as published.
        defaults={'resize_masks_first': True},
        checks=SETTINGS,
    ),
    ResultKind(
        'general',
        inspect.unwrap(general_inference),
        field='pred_general_seg',
        form=SEMANTIC,
        stands_in_for='pred_sem_seg',
        checks=SETTINGS,
    ),
    ResultKind(
        'instance',
        inspect.unwrap(instance_inference),
        field='pred_instances',
        form=INSTANCES,
        checks=SETTINGS,
    ),
):
    register_result(built_in)
