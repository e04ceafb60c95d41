"""Every registered transform of mmcv, MMSegmentation and MMDetection moves segments with the image, or is refused.

The images of these tests encode the segment index at each pixel, so the position of the segments can be read from a
transformed image.

The images of these tests encode the number of the segment at each pixel, so a moved image tells where its segments are.
"""

import copy
import random

import mmdet.datasets  # noqa: F401  registers its transforms
import mmseg.datasets  # noqa: F401
import numpy as np
import pytest
from helpers.panoptic import stored_segments
from mmcv.transforms import TRANSFORMS as MMCV_TRANSFORMS
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS
from scipy import ndimage

from mmmaskformer.datasets.pipelines import (
    ALL,
    FILLS,
    LABELS,
    MASKS,
    MOVERS,
    SEGMENTS,
    check_pipeline,
    names_of,
    transforms_of,
)
from mmmaskformer.datasets.transforms.common import LoadedPair, image_geometry
from mmmaskformer.registry import TRANSFORMS

REGISTRIES = {'mmcv': MMCV_TRANSFORMS, 'mmseg': MMSEG_TRANSFORMS, 'mmdet': MMDET_TRANSFORMS}
REGISTERED = {
    f'{kind.__module__.split(".")[0]}.{kind.__name__}': kind
    for registry in REGISTRIES.values()
    for kind in registry.module_dict.values()
    if kind.__module__.split('.')[0] in REGISTRIES
}
SIZE, COUNT, IGNORED_16 = (43, 57), 5, 65535

# Transforms that do not move the image, or not a two-dimensional one.
STILL = {
    'loads or packs': """
        mmcv.ImageToTensor mmcv.LoadAnnotations mmcv.LoadImageFromFile mmcv.ToTensor
        mmseg.InferencerLoader mmseg.LoadAnnotations mmseg.LoadBiomedicalAnnotation mmseg.LoadBiomedicalData
        mmseg.LoadBiomedicalImageFromFile mmseg.LoadDepthAnnotation mmseg.LoadImageFromNDArray
        mmseg.LoadMultipleRSImageFromFile mmseg.LoadSingleRSImageFromFile mmseg.PackSegInputs
        mmdet.FilterAnnotations mmdet.GTBoxSubOne_GLIP mmdet.ImageToTensor mmdet.InferencerLoader mmdet.LoadAnnotations
        mmdet.LoadEmptyAnnotations mmdet.LoadImageFromNDArray mmdet.LoadMultiChannelImageFromFiles
        mmdet.LoadPanopticAnnotations mmdet.LoadProposals mmdet.LoadTextAnnotations mmdet.LoadTrackAnnotations
        mmdet.PackDetInputs mmdet.PackReIDInputs mmdet.PackTrackInputs mmdet.RandomSamplingNegPos mmdet.ToTensor
        mmdet.Transpose mmdet.WrapFieldsToLists mmdet.BaseFrameSample mmdet.UniformRefFrameSample""",
    'holds other transforms': """
        mmcv.Compose mmcv.KeyMapper mmcv.MultiScaleFlipAug mmcv.RandomApply mmcv.RandomChoice mmcv.RandomChoiceResize
        mmcv.RandomResize mmcv.TestTimeAug mmcv.TransformBroadcaster mmdet.AutoAugment mmdet.MultiBranch
        mmdet.ProposalBroadcaster mmdet.RandAugment mmdet.RandomOrder""",
    'changes colours': """
        mmcv.Normalize mmcv.RandomGrayscale mmseg.AdjustGamma mmseg.PhotoMetricDistortion mmseg.RGB2Gray mmseg.Rerange
        mmdet.AutoContrast mmdet.Brightness mmdet.Color mmdet.ColorTransform mmdet.Contrast mmdet.Equalize mmdet.Invert
        mmdet.PhotoMetricDistortion mmdet.Posterize mmdet.Solarize mmdet.SolarizeAdd mmdet.YOLOXHSVRandomAug""",
    'changes colours by their surroundings': 'mmseg.CLAHE mmdet.Sharpness mmdet.Corrupt mmseg.RandomDepthMix',
    'erases parts of the image': 'mmseg.RandomCutOut mmdet.CutOut mmdet.RandomErasing',
    'volumes, and pairs of images': """
        mmseg.BioMedical3DPad mmseg.BioMedical3DRandomCrop mmseg.BioMedical3DRandomFlip mmseg.BioMedicalGaussianBlur
        mmseg.BioMedicalGaussianNoise mmseg.BioMedicalRandomGamma mmseg.ConcatCDInput""",
    'makes a map of its own': 'mmseg.GenerateEdge',
    'a base class': 'mmdet.GeomTransform',
}
# Requires a package that is not a dependency; read, not run.
NOT_INSTALLED = ('mmdet.Albu', 'mmdet.InstaBoost', 'mmseg.Albu')

OPTIONS = {
    'mmcv.Resize': dict(scale=(70, 50)),
    'mmcv.Pad': dict(size=(90, 100)),
    'mmcv.CenterCrop': dict(crop_size=(30, 40)),
    'mmcv.RandomFlip': dict(prob=1.0),
    'mmseg.Resize': dict(scale=(70, 50)),
    'mmseg.ResizeShortestEdge': dict(scale=30, max_size=90),
    'mmseg.ResizeToMultiple': dict(size_divisor=32),
    'mmseg.RandomCrop': dict(crop_size=(30, 40)),
    'mmseg.RandomFlip': dict(prob=1.0),
    'mmseg.RandomRotate': dict(prob=1.0, degree=30),
    'mmseg.RandomRotFlip': dict(rotate_prob=1.0),
    'mmseg.RandomMosaic': dict(prob=1.0, img_scale=(40, 60)),
    'mmseg.SegRescale': dict(scale_factor=0.5),
    'mmdet.Resize': dict(scale=(70, 50)),
    'mmdet.FixScaleResize': dict(scale=(70, 50), keep_ratio=True),
    'mmdet.FixShapeResize': dict(width=70, height=50),
    'mmdet.ResizeShortestEdge': dict(scale=30, max_size=90),
    'mmdet.RandomFlip': dict(prob=1.0),
    'mmdet.RandomFlip_GLIP': dict(prob=1.0),
    'mmdet.RandomCrop': dict(crop_size=(30, 40)),
    'mmdet.Pad': dict(size=(90, 100)),
    'mmdet.Expand': dict(prob=1.0, seg_ignore_label=255),
    'mmdet.MinIoURandomCrop': dict(),
    'mmdet.RandomShift': dict(prob=1.0),
    'mmdet.RandomAffine': dict(),
    'mmdet.Mosaic': dict(img_scale=(60, 40)),
    # It confuses height and width of masks that are not square, so that they differ in size from the image.
    'mmdet.CachedMosaic': dict(img_scale=(48, 48), random_pop=False, max_cached_images=9),
    'mmdet.MixUp': dict(img_scale=(60, 40)),
    'mmdet.CachedMixUp': dict(img_scale=(60, 40), random_pop=False, max_cached_images=9, prob=1.0),
    'mmdet.CopyPaste': dict(),
    'mmdet.SegRescale': dict(scale_factor=0.5),
    'mmdet.RandomCenterCropPad': dict(
        crop_size=(30, 40), ratios=(0.9, 1.1), mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True, test_pad_mode=None
    ),
    **{f'mmdet.{name}': dict(prob=1.0, level=8) for name in ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY')},
    'mmmaskformer.PadToSize': dict(size=(90, 100)),
    'mmmaskformer.RandomCropRange': dict(min_size=30, max_size=40),
    'mmmaskformer.ResizeShortestEdge': dict(short_edge=30, max_size=90),
}


def build(name: str, **options):
    """A transform, built in its own scope."""
    scope = name.partition('.')[0]
    with DefaultScope.overwrite_default_scope(
        'mmseg' if scope == 'mmmaskformer' else scope.replace('mmcv', 'mmengine')
    ):
        return TRANSFORMS.build(dict(type=name.removeprefix('mmcv.'), **options))


def colour(segment):
    return 40 * (segment + 1)


def sample(seed: int, kind: str, *, boxes: bool, first: int = 0) -> dict:
    """An image whose colours encode its segments, with the annotations of ``kind``.

    Args:
        seed: of the image.
        kind: of the annotations.
        boxes: add boxes and masks, which some transforms require in addition to other annotations.
        first: the colour of the segment with index 0.
    """
    coarse = np.random.default_rng(seed).integers(-1, COUNT, (4, 5))
    segments = coarse.repeat(12, 0).repeat(12, 1)[: SIZE[0], : SIZE[1]]
    results = dict(
        img=np.repeat(colour(segments)[..., None], 3, 2).astype(np.uint8),
        img_shape=SIZE, ori_shape=SIZE, img_path='picture.png', img_id=seed, seg_fields=[],
    )  # fmt: skip
    if kind == MASKS or boxes:
        masks = (segments == np.arange(COUNT)[:, None, None]).astype(np.uint8)
        results |= dict(
            gt_masks=BitmapMasks(masks, *SIZE),
            gt_bboxes=HorizontalBoxes(np.array([[0, 0, SIZE[1], SIZE[0]]] * COUNT, np.float32)),
            gt_bboxes_labels=np.arange(COUNT),
            gt_ignore_flags=np.zeros(COUNT, bool),
        )
    if kind == SEGMENTS:
        stored = stored_segments(np.where(segments < 0, -1, (segments + first) % COUNT))
        results |= dict(gt_seg_map=stored, gt_segment_labels=np.arange(COUNT), seg_fields=['gt_seg_map'])
        results['loaded_pair'] = LoadedPair(stored, image_geometry(results, stored))
    elif kind == LABELS:
        labels = np.where(segments < 0, 255, segments).astype(np.uint8)
        results |= dict(gt_seg_map=labels, seg_fields=['gt_seg_map'])
    elif kind == '16 bits':
        labels = np.where(segments < 0, IGNORED_16, 200 * segments).astype(np.int32)
        results |= dict(gt_seg_map=labels, seg_fields=['gt_seg_map'], ignore_index=IGNORED_16)
    return results


def moved(transform, name: str, kind: str, seed: int) -> dict:
    boxes = name.startswith('mmdet.')
    results = sample(seed, kind, boxes=boxes)
    others = 1 if 'MixUp' in name or 'CopyPaste' in name else 3
    results['mix_results'] = [sample(100 * seed + index, kind, boxes=boxes, first=index + 1) for index in range(others)]
    if name == 'mmdet.RandomCenterCropPad':
        results['img'] = results['img'].astype(np.float32)
    return transform(results) | dict(blended=name == 'mmdet.CachedMixUp')


def shows(image: np.ndarray, segments: np.ndarray) -> bool:
    """Whether the image has the colour of each segment, except for two pixels at borders, which interpolation mixes."""
    if image.shape[:2] != segments.shape:
        return False
    low, high = (
        change(segments, size=5, mode='constant', cval=-1)
        for change in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    inside = (low == high) & (segments >= 0)
    assert inside.sum() > 20
    return bool((np.abs(image[..., 0][inside].astype(int) - colour(segments[inside])) <= 2).all())


def stays_together(results: dict, kind: str) -> bool:
    image = np.asarray(results['img'])
    if kind == MASKS:
        masks = results['gt_masks'].masks
        if masks.shape[1:] != image.shape[:2] or len(masks) != len(results['gt_bboxes_labels']):
            return False
        if results.get('blended'):  # the sum of two images shows the colours of neither
            return True
        pairs = zip(results['gt_bboxes_labels'].tolist(), masks, strict=True)
        return all(shows(image, np.where(mask > 0, label, -1)) for label, mask in pairs if mask.sum() > 500)
    if kind == SEGMENTS:
        packed = build('mmmaskformer.PackPanopticInputs', keep_vanished=True)(results)
        return shows(image, packed['data_samples'].gt_panoptic_seg.segment_map[0].numpy())
    labels = results['gt_seg_map'].astype(int)
    ignored, step = (255, 1) if kind == LABELS else (IGNORED_16, 200)
    if not np.isin(labels, [*range(0, step * COUNT, step), ignored]).all():
        return False
    return shows(image, np.where(labels == ignored, -1, labels // step))


def test_every_transform_is_classified():
    still = [name for names in STILL.values() for name in names.split()]
    known = [*still, *(name for name in MOVERS if not name.startswith('mmmaskformer.'))]
    assert sorted(known) == sorted(REGISTERED)
    assert set(OPTIONS) | set(NOT_INSTALLED) == set(MOVERS)


@pytest.mark.parametrize('kind', [LABELS, '16 bits', SEGMENTS, MASKS])
@pytest.mark.parametrize('name', OPTIONS)
def test_the_table_is_correct(name, kind):
    options = dict(OPTIONS[name])
    fill = next((FILLS[base] for base in FILLS if base in base_names(name)), None)
    if kind == '16 bits' and fill:
        options[fill] = {'img': 0, 'seg': IGNORED_16} if fill == 'pad_val' else IGNORED_16
    transform = build(name, **options)
    together = []
    for seed in range(8):
        np.random.seed(seed), random.seed(seed)
        try:
            together.append(stays_together(moved(transform, name, kind, seed), kind))
        except Exception:
            assert (LABELS if kind == '16 bits' else kind) in MOVERS[name]
            together.append(False)
    assert all(together) == ((LABELS if kind == '16 bits' else kind) not in MOVERS[name])


def base_names(name: str) -> set[str]:
    kind = REGISTERED.get(name, object)
    return {f'{base.__module__.split(".")[0]}.{base.__name__}' for base in kind.__mro__}


@pytest.mark.parametrize('name', STILL['changes colours'].split())
def test_colours_change_and_segments_stay(name):
    options = {
        'mmcv.Normalize': dict(mean=[1, 2, 3], std=[1, 1, 1]),
        'mmcv.RandomGrayscale': dict(prob=1.0, keep_channels=True, channel_weights=(1, 1, 1)),
    }
    transform = build(name, **options.get(name, {}))
    for seed in range(4):
        np.random.seed(seed), random.seed(seed)
        results = sample(seed, SEGMENTS, boxes=False)
        if name in ('mmdet.PhotoMetricDistortion',):
            results['img'] = results['img'].astype(np.float32)
        before = copy.deepcopy(results)
        image = np.asarray(transform(results)['img'])
        assert np.array_equal(results['gt_seg_map'], before['gt_seg_map']) and image.shape == (*SIZE, 3)
        for segment in np.unique(before['gt_seg_map']):
            assert np.ptp(image[before['gt_seg_map'] == segment], axis=0).max() <= 1


@pytest.mark.parametrize('name', ['mmseg.RandomCutOut', 'mmdet.RandomErasing'])
def test_erased_pixels_become_void(name):
    options = {'mmseg.RandomCutOut': dict(prob=1.0, n_holes=2, cutout_shape=(9, 9), seg_fill_in=255),
               'mmdet.RandomErasing': dict(n_patches=2, ratio=0.3)}[name]  # fmt: skip
    np.random.seed(0)
    results = build(name, **options)(sample(0, SEGMENTS, boxes=False))
    assert (results['gt_seg_map'] == 255).sum() > (sample(0, SEGMENTS, boxes=False)['gt_seg_map'] == 255).sum()
    assert stays_together(results, SEGMENTS)


# --- refused pipelines ---


LOADERS = {
    LABELS: dict(type='mmmaskformer.LoadSegAnnotations'),
    SEGMENTS: dict(type='mmmaskformer.LoadPanopticAnnotations'),
    MASKS: dict(type='mmdet.LoadAnnotations', with_mask=True),
}


def pipeline(*steps: dict) -> list:
    return [build(**{('name' if key == 'type' else key): value for key, value in step.items()}) for step in steps]


@pytest.mark.parametrize('kind', LOADERS)
@pytest.mark.parametrize('name', OPTIONS)
def test_a_transform_that_skips_annotations_is_named(name, kind):
    steps = pipeline(LOADERS[kind], dict(type=name, **OPTIONS[name]))
    if kind not in MOVERS[name]:
        return check_pipeline(steps, where='train', ignore_index=255)
    with pytest.raises(ValueError, match=rf'train: {name} cannot be used with the .*.* Fix: remove {name}'):
        check_pipeline(steps, where='train')


FLIP = dict(type='RandomFlip', prob=1.0)


@pytest.mark.parametrize(
    'scope, wrapper',
    [
        ('mmdet', dict(type='RandomChoice', transforms=[[FLIP], [dict(type='RandomShift')]])),
        ('mmdet', dict(type='RandomApply', transforms=[dict(type='RandomShift')])),
        ('mmdet', dict(type='RandomOrder', transforms=[FLIP, dict(type='RandomShift')])),
        ('mmdet', dict(type='RandAugment', aug_space=[[FLIP], [dict(type='RandomShift')]])),
        ('mmdet', dict(type='AutoAugment', policies=[[FLIP], [dict(type='RandomShift')]])),
        ('mmdet', dict(type='MultiBranch', branch_field=['sup'], sup=[FLIP, dict(type='RandomShift')])),
        ('mmdet', dict(type='TransformBroadcaster', transforms=[dict(type='RandomShift')])),
        ('mmdet', dict(type='RandomResize', scale=(9, 9), ratio_range=(1, 2), resize_type='mmcv.Resize')),
    ],
)
def test_transforms_inside_others_are_found(scope, wrapper):
    expected = 'mmcv.Resize' if wrapper['type'] == 'RandomResize' else 'mmdet.RandomShift'
    with DefaultScope.overwrite_default_scope(scope):
        built = TRANSFORMS.build(wrapper)
    assert expected in {name for part in transforms_of(built) for name in names_of(part)}


@pytest.mark.parametrize('name', ['mmcv.RandomFlip', 'mmdet.RandomFlip'])
def test_labels_are_swapped_in_label_maps_only(name):
    flip = dict(type=name, prob=1.0, swap_seg_labels=[(0, 1)])
    check_pipeline(pipeline(LOADERS[LABELS], flip), where='train')
    with pytest.raises(ValueError, match=rf'train: {name} has swap_seg_labels=.* Fix: remove swap_seg_labels'):
        check_pipeline(pipeline(LOADERS[SEGMENTS], dict(type='RandomApply', transforms=[flip])), where='train')


def test_a_custom_class_is_treated_like_its_base_class():
    class Mine(REGISTERED['mmdet.Mosaic']):
        pass

    with pytest.raises(ValueError, match='train: mmdet.Mosaic cannot be used with the label map'):
        check_pipeline([*pipeline(LOADERS[LABELS]), Mine()], where='train')


def test_annotations_come_before_the_image_moves_except_for_tests():
    steps = pipeline(dict(type='mmseg.RandomFlip', prob=0.5), LOADERS[SEGMENTS])
    with pytest.raises(
        ValueError, match='train: mmseg.RandomFlip moves the image before mmmaskformer.LoadPanopticAnnotations loads'
    ):
        check_pipeline(steps, where='train')
    check_pipeline(steps, where='test', test_mode=True)


@pytest.mark.parametrize(
    'step, found, fix',
    [
        (dict(type='mmseg.RandomRotate', prob=0.5, degree=9), 'seg_pad_val=255', 'seg_pad_val=65535'),
        (dict(type='mmcv.Pad', size_divisor=32), r"pad_val\['seg'\]=255", r"pad_val\['seg'\]=65535"),
        (dict(type='mmdet.Rotate', prob=1.0), 'seg_ignore_label=255', 'seg_ignore_label=65535'),
        (dict(type='mmdet.Expand'), 'seg_ignore_label=None', 'seg_ignore_label=65535'),
        (dict(type='mmdet.RandomErasing', n_patches=1, ratio=0.1), 'seg_ignore_label=255', 'seg_ignore_label=65535'),
        (dict(type='mmseg.RandomMosaic', prob=1.0), 'seg_pad_val=255', 'seg_pad_val=65535'),
    ],
)
def test_uncovered_pixels_never_get_a_class(step, found, fix):
    steps = pipeline(LOADERS[LABELS], step)
    name = step['type']
    with pytest.raises(
        ValueError, match=rf'train: {name} fills the label map with {found}, expected .* Fix: set {fix}'
    ):
        check_pipeline(steps, where='train', ignore_index=65535)


def test_uncovered_pixels_never_get_a_segment():
    steps = pipeline(LOADERS[SEGMENTS], dict(type='mmseg.RandomRotate', prob=1.0, degree=9, seg_pad_val=300))
    with pytest.raises(ValueError, match='RandomRotate fills the segment map with seg_pad_val=300, expected 255'):
        check_pipeline(steps, where='train')
    unfilled = pipeline(LOADERS[LABELS], dict(type='mmseg.RandomCutOut', prob=1.0, n_holes=1, cutout_shape=(3, 3)))
    check_pipeline(unfilled, where='train', ignore_index=65535)


class Albumentation:
    """Has the attributes of a transform of albumentations, which is not a dependency."""

    __module__ = 'albumentations.augmentations'

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __call__(self, **data):
        return data


@pytest.mark.parametrize(
    'attributes, message',
    [
        (dict(border_mode=0, fill_mask=0.0), 'fill_mask=0.0, expected 255.* Fix: set fill_mask=255'),
        (dict(border_mode=0, mask_value=None), 'mask_value=0, expected 255.* Fix: set mask_value=255'),
        (dict(border_mode=0, fill_mask=255), None),
        (dict(border_mode=4, mask_value=None), None),
        (dict(fill_mask=None), None),
        (dict(border_mode=0, fill_mask=0.0, pad_if_needed=False), None),
        (dict(), None),
    ],
)
def test_pixels_filled_by_albumentations_have_no_class(attributes, message):
    class Albu:
        aug = None

        def __call__(self, results):
            return results

    step = Albu()
    step.aug = Albumentation(transforms=[Albumentation(**attributes)])
    steps = [*pipeline(LOADERS[LABELS]), step]
    if message is None:
        return check_pipeline(steps, where='train', ignore_index=255)
    with pytest.raises(ValueError, match=f'train: albumentations.Albumentation fills the label map with {message}'):
        check_pipeline(steps, where='train', ignore_index=255)
    # 0 is not a segment.
    check_pipeline([*pipeline(LOADERS[SEGMENTS]), step], where='train')


def test_every_kind_is_in_the_table():
    assert frozenset({LABELS, SEGMENTS, MASKS}) == ALL and all(left <= ALL for left in MOVERS.values())
