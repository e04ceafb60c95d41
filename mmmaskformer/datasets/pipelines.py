"""A check that a pipeline has no transforms that separate images from their annotations, with a table by name.

Some transforms of MMDetection, MMSegmentation and mmcv move an image but not its label map, segment map or instance
masks. Most do not change the size, so the result looks valid. The tests run every transform that the three packages
register and compare the moved map with the moved image; the table contains the results.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

HOSTS = ('mmcv', 'mmseg', 'mmdet', 'mmmaskformer')
LABELS, SEGMENTS, MASKS = 'label map', 'segment map', 'instance masks'
MAPS = frozenset({LABELS, SEGMENTS})
ALL = MAPS | {MASKS}

# transform → annotations that it does not move, or damages
MOVERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(('mmcv.Resize', 'mmcv.Pad', 'mmcv.CenterCrop', 'mmcv.RandomFlip'), frozenset({MASKS})),
    **dict.fromkeys(
        (
            'mmseg.Albu',
            'mmseg.RandomCrop',
            'mmseg.RandomFlip',
            'mmseg.RandomRotate',
            'mmseg.Resize',
            'mmseg.ResizeShortestEdge',
            'mmseg.ResizeToMultiple',
        ),
        frozenset({MASKS}),
    ),
    'mmseg.RandomMosaic': frozenset({SEGMENTS, MASKS}),
    'mmseg.RandomRotFlip': ALL,
    'mmseg.SegRescale': MAPS,
    **dict.fromkeys(
        (
            'mmdet.Expand',
            'mmdet.FixScaleResize',
            'mmdet.FixShapeResize',
            'mmdet.MinIoURandomCrop',
            'mmdet.Pad',
            'mmdet.RandomCrop',
            'mmdet.RandomFlip',
            'mmdet.RandomFlip_GLIP',
            'mmdet.Resize',
            'mmdet.ResizeShortestEdge',
            'mmdet.Rotate',
            'mmdet.ShearX',
            'mmdet.ShearY',
            'mmdet.TranslateX',
            'mmdet.TranslateY',
        ),
        frozenset(),
    ),
    **dict.fromkeys(
        ('mmdet.Albu', 'mmdet.CachedMixUp', 'mmdet.CachedMosaic', 'mmdet.CopyPaste', 'mmdet.InstaBoost'), MAPS
    ),
    **dict.fromkeys(
        ('mmdet.MixUp', 'mmdet.Mosaic', 'mmdet.RandomAffine', 'mmdet.RandomCenterCropPad', 'mmdet.RandomShift'), ALL
    ),
    'mmdet.SegRescale': ALL,
    **dict.fromkeys(
        ('mmmaskformer.PadToSize', 'mmmaskformer.RandomCropRange', 'mmmaskformer.ResizeShortestEdge'),
        frozenset({MASKS}),
    ),
}
REASONS = {
    'mmdet.Albu': 'does not pass it to albumentations; use mmseg.Albu',
    'mmseg.RandomMosaic': 'combines several images, whose segments have the same numbers',
    'mmseg.RandomRotFlip': 'interpolates between labels when it rotates; use RandomRotate and RandomFlip',
    'mmseg.SegRescale': 'rescales the map but not the image',
    'mmdet.SegRescale': 'rescales the map but not the image',
}
# transform, or one of its base classes → attribute with the label for uncovered pixels
FILLS = {
    'mmcv.Pad': 'pad_val',
    'mmseg.RandomCutOut': 'seg_fill_in',
    'mmseg.RandomMosaic': 'seg_pad_val',
    'mmseg.RandomRotate': 'seg_pad_val',
    'mmdet.Expand': 'seg_ignore_label',
    'mmdet.GeomTransform': 'seg_ignore_label',
    'mmdet.RandomErasing': 'seg_ignore_label',
}
NO_SEGMENT_FILLS = (255, 0)
"""Values that `mmmaskformer.datasets.transforms.common.PANOPTIC_MAP` reads as no segment."""


def transforms_of(pipeline, _seen: set[int] | None = None) -> Iterator:
    """All transforms of a pipeline in order, including those inside others such as RandomChoice.

    Args:
        pipeline: a transform, a list of transforms, or another container of transforms.
    """
    seen = set() if _seen is None else _seen
    if isinstance(pipeline, Mapping):
        pipeline = list(pipeline.values())
    if isinstance(pipeline, list | tuple):
        for part in pipeline:
            yield from transforms_of(part, seen)
    elif callable(pipeline) and not isinstance(pipeline, type) and id(pipeline) not in seen:
        seen.add(id(pipeline))
        yield pipeline
        yield from transforms_of(vars(pipeline) if hasattr(pipeline, '__dict__') else (), seen)


def names_of(transform) -> list[str]:
    """Names such as 'mmdet.Rotate' of a transform's class and its base classes in `HOSTS`, nearest first."""
    classes = type(transform).__mro__
    roots = [(kind.__module__.split('.')[0], kind.__name__) for kind in classes]
    return [f'{root}.{name}' for root, name in roots if root in HOSTS]


def loaded_by(transform) -> set[str]:
    """The annotations that a loader loads, of `LABELS`, `SEGMENTS` and `MASKS`; empty for other transforms."""
    names = names_of(transform)
    if 'mmmaskformer.LoadPanopticAnnotations' in names:
        return {SEGMENTS}
    if {'mmmaskformer.LoadSegAnnotations', 'mmseg.LoadAnnotations'} & set(names):
        return {LABELS}
    if 'mmcv.LoadAnnotations' in names:
        wanted = {LABELS: getattr(transform, 'with_seg', False), MASKS: getattr(transform, 'with_mask', False)}
        return {kind for kind, loads in wanted.items() if loads}
    return set()


def check_pipeline(pipeline: Sequence, *, where: str, test_mode: bool = False, ignore_index: int | None = None) -> None:
    """Check that a pipeline moves images and annotations together.

    Args:
        pipeline: built transforms.
        where: description of the pipeline, for the message.
        test_mode: whether images may be moved before annotations are loaded, which then have the size of their file.
        ignore_index: the dataset's label of pixels without a class; None if unknown.

    Raises:
        ValueError: if a transform moves the image but not its annotations, fills uncovered pixels of a map with the
            number of a class or segment, or swaps labels, which a segment map does not contain.
    """
    loaded: set[str] = set()
    movers: list[str] = []
    for transform in transforms_of(pipeline):
        name = next(iter(names_of(transform)), type(transform).__name__)
        kinds = loaded_by(transform)
        if kinds and movers and not test_mode:
            raise ValueError(
                f'{where}: {movers[0]} moves the image before {name} loads its annotations, which are then not moved. '
                f'Fix: put {name} directly after the transform that loads the image.'
            )
        loaded |= kinds
        if name in MOVERS:
            movers.append(name)
        left = sorted(loaded & MOVERS.get(name, frozenset()))
        if left:
            reason = REASONS.get(name, f'moves the image but not the {" and the ".join(left)}')
            raise ValueError(
                f'{where}: {name} cannot be used with the {left[0]}: it {reason}. Fix: remove {name} from the pipeline.'
            )
        if SEGMENTS in loaded and getattr(transform, 'swap_seg_labels', None) is not None:
            raise ValueError(
                f'{where}: {name} has swap_seg_labels={transform.swap_seg_labels}, which swaps labels of a label map; '
                'a segment map has segment numbers instead of labels. Fix: remove swap_seg_labels.'
            )
        _check_fill(transform, loaded, ignore_index, where)


def _check_fill(transform, loaded: set[str], ignore_index: int | None, where: str) -> None:
    """Raise a `ValueError` if a transform fills a map with a value that is neither ignored nor void."""
    if SEGMENTS in loaded:
        expected, kind = NO_SEGMENT_FILLS, SEGMENTS
    elif LABELS in loaded and ignore_index is not None:
        expected, kind = (ignore_index,), LABELS
    else:
        return
    for attribute, fill in _fill_of(transform).items():
        if fill not in expected:
            name = next(iter(names_of(transform)), f'albumentations.{type(transform).__name__}')
            raise ValueError(
                f'{where}: {name} fills the {kind} with {attribute}={fill}, expected {expected[0]}, which marks pixels '
                f'without a class. Fix: set {attribute}={expected[0]} in the pipeline.'
            )


def _fill_of(transform) -> dict[str, int | None]:
    """The values that a transform writes to uncovered pixels of a map, by the argument that sets them."""
    if type(transform).__module__.split('.')[0] == 'albumentations':
        return _albumentations_fill(transform)
    name = next((name for name in names_of(transform) if name in FILLS), None)
    # Pad may replicate the border instead.
    if name is None or getattr(transform, 'padding_mode', 'constant') != 'constant':
        return {}
    fill = getattr(transform, FILLS[name], 255)
    if isinstance(fill, Mapping):
        return {f"{FILLS[name]}['seg']": fill.get('seg', 255)}
    # RandomCutOut does not change the labels by default.
    return {} if name == 'mmseg.RandomCutOut' and fill is None else {FILLS[name]: fill}


def _albumentations_fill(transform) -> dict[str, int]:
    """Like `_fill_of`, for a transform inside MMSegmentation's Albu; albumentations 1 calls it 'mask_value'."""
    attribute = next((name for name in ('fill_mask', 'mask_value') if hasattr(transform, name)), None)
    if attribute is None or getattr(transform, 'border_mode', 0) != 0 or not getattr(transform, 'pad_if_needed', True):
        return {}
    fill = getattr(transform, attribute)
    if fill is None:  # transforms that move no pixels do not change the map
        return {attribute: 0} if hasattr(transform, 'border_mode') else {}
    return {attribute: fill}


def leaves_of(dataset, outer: Iterable = ()) -> Iterator[tuple[object, list]]:
    """The datasets inside wrappers such as RepeatDataset, ConcatDataset or MultiImageMixDataset, with their pipelines.

    Args:
        dataset: with or without wrappers.
        outer: transforms that are applied after those of the dataset.

    Yields:
        A dataset that reads data itself, and the list of its transforms followed by those of the wrappers.
    """
    own = getattr(dataset, 'pipeline', None)
    transforms = [*getattr(own, 'transforms', own or ()), *outer]
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner == [None]:
        yield dataset, transforms
        return
    for part in inner:
        yield from leaves_of(part, transforms)


def check_pipelines(dataset, where: str = '') -> None:
    """`check_pipeline` for every dataset inside the wrappers.

    Args:
        dataset: with or without wrappers.
        where: description of its use, for the message.

    Raises:
        ValueError: see `check_pipeline`.
    """
    for leaf, transforms in leaves_of(dataset):
        check_pipeline(
            transforms,
            where=f'{where}pipeline of {type(leaf).__name__}',
            test_mode=getattr(leaf, 'test_mode', False),
            ignore_index=getattr(leaf, 'ignore_index', None),
        )
