"""Generated input gives either the correct result or an error that the function documents.

By default, the same inputs, about 2,500, are drawn each time. ``FUZZ=10 pytest tests/test_fuzz.py`` draws ten times as
many, and different ones each time. Inputs that revealed a fault are kept as examples.
"""

import copy
import inspect
import io
import json
import math
import os
import warnings

import numpy as np
import pytest
import torch
from helpers import hosts, toy
from helpers.checkpoints import Attack, content
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import METRICS, TRANSFORMS
from PIL import Image
from test_formats.test_coco_json import CONTENT as PANOPTIC

from mmmaskformer.core.inference.detr import detr_inference
from mmmaskformer.core.inference.instance import instance_inference
from mmmaskformer.core.inference.labels.search import semantic_labels
from mmmaskformer.core.inference.panoptic import general_inference, panoptic_inference
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.core.inference.semantic import semantic_inference
from mmmaskformer.core.masks import Product
from mmmaskformer.core.structures import MaskPrediction
from mmmaskformer.core.training.targets import LabelRangeError, semantic_targets
from mmmaskformer.formats.coco_json import read_panoptic
from mmmaskformer.formats.label_maps import decode_label_map
from mmmaskformer.formats.mmdet_codes import decode_panoptic, instance_offset
from mmmaskformer.formats.panoptic_png import colours_of_ids, decode_ids
from mmmaskformer.heads.settings import check_segmentor_test_cfg
from mmmaskformer.registry import MODELS
from mmmaskformer.safe_loading import read_safely

TIMES = int(os.environ.get('FUZZ', 0))
NAN, INFINITE = math.nan, math.inf


def fuzz(count: int):
    """Settings of a test with ``count`` inputs."""
    return settings(
        max_examples=count * max(1, TIMES),
        derandomize=not TIMES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damages(draw) -> list[tuple]:
    """Some byte changes: (kind, position as a fraction of the length, value)."""
    kinds = st.sampled_from(['flip', 'set', 'cut', 'insert', 'remove'])
    change = st.tuples(kinds, st.floats(0, 1, exclude_max=True), st.integers(0, 255))
    return draw(st.lists(change, max_size=3))


def damaged(whole: bytes, changes) -> bytes:
    data = bytearray(whole)
    for kind, part, value in changes:
        at = int(part * len(data))
        if kind == 'cut':
            del data[at:]
        elif kind == 'insert':
            data[at:at] = bytes([value])
        elif kind == 'remove':
            del data[at : at + 1 + value]
        elif data:
            data[at] = value if kind == 'set' else data[at] ^ 1 << value % 8
    return bytes(data)


def encoded(pixels: np.ndarray, form: str = 'PNG') -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form)
    return stream.getvalue()


RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 2**24, (9, 13))
PNG = encoded(colours_of_ids(IDS))
LABELS = {
    'PNG': RNG.integers(0, 256, (9, 13)).astype(np.uint8),
    'wide PNG': RNG.integers(0, 65536, (9, 13)).astype(np.uint16),
    'TIFF': RNG.integers(0, 256, (9, 13)).astype(np.uint8),
}
LABEL_FILES = {name: encoded(pixels, name.split()[-1]) for name, pixels in LABELS.items()}


@fuzz(350)
@given(damages())
@example([('flip', 0.5, 3)])
@example([('cut', 0.97, 0)])
def test_panoptic_png(changes):
    """Checksums detect every change of pixels, so no wrong ids are returned."""
    data = damaged(PNG, changes)
    try:
        found = decode_ids(data or b'\0', 'a.png')
    except ValueError as error:
        assert 'a.png' in str(error)
    else:
        assert np.array_equal(found, IDS)


@fuzz(350)
@given(damages(), st.sampled_from(list(LABELS)))
@example([('flip', 0.5, 3)], 'PNG')
@example([('flip', 0.5, 0)], 'TIFF')
def test_label_map(changes, name):
    """A damaged PNG is refused. TIFF has no checksums, so any labels may be read, but with one channel."""
    data = damaged(LABEL_FILES[name], changes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow warns about unusual TIFF tags
            found = decode_label_map(data or b'\0', 'a.png')
    except ValueError as error:
        assert 'a.png' in str(error)
    else:
        assert found.ndim == 2 and found.min() >= 0 and found.max() <= 65535
        if 'PNG' in name:
            assert np.array_equal(found, LABELS[name])


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-2, 700),
    st.floats(),
    st.sampled_from(['', '0', '7', 'false', '1e3', 'a.png', '../a.png', '\0', 'NaN', [], {}, [[]], [None], {'id': 1}]),
    st.text(max_size=3),
)
KEYS = ('id', 'image_id', 'file_name', 'height', 'width', 'segments_info', 'category_id', 'area', 'iscrowd', 'name',
        'isthing', 'images', 'annotations', 'categories')  # fmt: skip


@st.composite
def json_changes(draw) -> list[tuple]:
    """A place in a JSON file where something is inserted, removed or duplicated."""
    step = st.tuples(st.sampled_from(['set', 'set', 'remove', 'double']), st.integers(0, 10**6), ODD_VALUES)
    return draw(st.lists(step, min_size=1, max_size=3))


def places(node, found: list | None = None) -> list[tuple]:
    """Every (container, key) in a JSON file."""
    found = [] if found is None else found
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(pairs):
        found.append((node, key))
        places(value, found)
    return found


def changed_json(changes):
    node = copy.deepcopy(PANOPTIC)
    for kind, number, value in changes:
        slots = places(node)
        if not slots:
            break
        container, key = slots[number % len(slots)]
        if kind == 'set':
            container[key] = copy.deepcopy(value)
        elif kind == 'remove':
            del container[key]
        elif isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[KEYS[number % len(KEYS)]] = copy.deepcopy(container[key])
    return node


@fuzz(350)
@given(json_changes())
@example([('set', 22, '0')])
@example([('set', 22, NAN)])
@example([('set', 3, -1)])
def test_panoptic_json(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / 'fuzz_panoptic.json'
    path.write_text(json.dumps(changed_json(changes)))
    try:
        found = read_panoptic(str(path))
    except ValueError as error:
        assert 'fuzz_panoptic.json' in str(error)
        return
    for image in found.images:
        assert type(image['height']) is int and image['height'] > 0 and image['id'] in found.annotations
    for annotation in found.annotations.values():
        assert isinstance(annotation['file_name'], str)
        for segment in annotation['segments_info']:
            assert type(segment['id']) is int and 1 <= segment['id'] < 2**24
            assert segment['category_id'] in found.categories and isinstance(segment['iscrowd'], bool)
            assert segment['area'] is None or math.isfinite(segment['area'])
    assert all(isinstance(category['isthing'], bool) for category in found.categories.values())


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.floats(-2, 2),
    st.sampled_from([NAN, INFINITE, -INFINITE, '', '1', 'whole', 'slide', 'Slide', 'general', 'reinit', 2**40]),
    st.lists(st.integers(-1, 64), max_size=4),
    st.dictionaries(st.sampled_from(['cls', 'mask', 'x']), st.floats(-1, 30), max_size=2),
)
PLACES = [
    ('num_queries',), ('channels',), ('ignore_index',), ('feature_strides',), ('in_channels',), ('on_class_mismatch',),
    ('pixel_decoder', 'norm_groups'), ('transformer_decoder', 'num_layers'), ('transformer_decoder', 'num_heads'),
    ('transformer_decoder', 'ffn_channels'), ('transformer_decoder', 'dropout'), ('criterion', 'no_object_weight'),
    ('criterion', 'class_weight'), ('criterion', 'loss_weights'), ('matcher', 'weights'), ('matcher', 'num_classes'),
    ('pixel_decoder', 'type'), ('criterion',), ('matcher',), ('num_class',),
]  # fmt: skip


@fuzz(200)
@given(st.sampled_from(PLACES), VALUES)
@example(('criterion', 'no_object_weight'), NAN)
@example(('transformer_decoder', 'num_layers'), True)
@example(('pixel_decoder', 'type'), False)
@example(('criterion', 'class_weight'), 0)
def test_configs_of_heads(place, value):
    """A head is built, or the error names the key."""
    if value == 2**40 and place[-1] != 'ignore_index':
        value = 0  # a width that needs too much memory
    config = ConfigDict(hosts.head_config())
    part = config
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    try:
        MODELS.build(config)
    except (ValueError, TypeError, KeyError) as error:
        assert any(key in str(error) for key in (place[-1], *place[-2:])), error


@fuzz(200)
@given(
    st.dictionaries(
        st.sampled_from(['mode', 'crop_size', 'stride', 'inference', 'object_threshold', 'infernce']), VALUES
    )
)
def test_test_cfg_of_semantic_models(test_cfg):
    try:
        check_segmentor_test_cfg(test_cfg)
    except (ValueError, TypeError) as error:
        assert 'model.test_cfg' in str(error)
    else:
        assert 0 <= test_cfg.get('object_threshold', 0) <= 1 and test_cfg.get('mode', 'whole') in ('whole', 'slide')


OTHER_PARTS = {
    'PadToSize': (TRANSFORMS, dict(size=(8, 8)), ['size', 'image_value', 'ignore_index']),
    'ResizeShortestEdge': (TRANSFORMS, dict(short_edge=8, max_size=9), ['short_edge', 'max_size']),
    'RandomCropRange': (TRANSFORMS, dict(min_size=1, max_size=9), ['min_size', 'max_size']),
    'LoadSegAnnotations': (TRANSFORMS, {}, ['num_classes', 'ignore_index', 'allow_missing', 'backend_args']),
    'LoadPanopticAnnotations': (TRANSFORMS, {}, ['allow_empty', 'allow_hidden', 'allow_missing']),
    'SemanticMetric': (METRICS, {}, ['field', 'ignore_index', 'classwise', 'format_only', 'collect_device', 'prefix']),
    'PanopticMetric': (METRICS, {}, ['field', 'classwise', 'format_only', 'outfile_prefix', 'collect_device']),
}


@fuzz(200)
@given(st.sampled_from(list(OTHER_PARTS)), st.integers(0, 5), VALUES)
def test_configs_of_data_and_metrics(name, number, value):
    registry, config, keys = OTHER_PARTS[name]
    key = keys[number % len(keys)]
    try:
        registry.build(dict(type=f'mmmaskformer.{name}') | config | {key: value})
    except ValueError as error:
        assert key in str(error)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> dict[str, bytes]:
    """A file that contains an attack, and one that does not."""
    folder = tmp_path_factory.mktemp('fuzz')
    files = {}
    for name, value in (('plain', content()), ('attack', content(meta=Attack(folder / 'executed')))):
        torch.save(value, folder / name)
        files[name] = (folder / name).read_bytes()
    return files | dict(marker=folder / 'executed')


@fuzz(200)
@given(damages(), st.sampled_from(['plain', 'attack']))
@example([], 'attack')
def test_checkpoints(checkpoint, changes, name):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch warns about unusual bytes
        try:
            read_safely(io.BytesIO(damaged(checkpoint[name], changes)), 'cpu', name='a.pth')
        except ValueError as error:
            assert 'a.pth' in str(error)
    assert not checkpoint['marker'].exists()


@fuzz(150)
@given(st.sampled_from([1, 9, 999, 1000, 1203, 40_000]), st.lists(st.integers(-2, 2**31), min_size=1, max_size=6))
@example(1000, [1000, 11_000, 10_999])
def test_panoptic_codes(num_classes, codes):
    offset = instance_offset(num_classes)
    wrong = [code for code in codes if code < 0 or code % offset > num_classes]
    if wrong:
        with pytest.raises(ValueError, match='expected label'):
            decode_panoptic(np.array([codes]), num_classes)
        return
    segments = decode_panoptic(np.array([codes]), num_classes)
    for code, number in zip(codes, segments.ids[0].tolist(), strict=True):
        assert (number == 0) == (code % offset == num_classes)
        assert number == 0 or segments.labels[number - 1] == code % offset


@fuzz(100)
@given(st.integers(1, 300), st.lists(st.integers(-3, 310), min_size=4, max_size=4), st.sampled_from([255, 0, 65535]))
def test_semantic_targets(num_classes, values, ignore_index):
    labels = torch.tensor(values).reshape(1, 2, 2)
    if ignore_index < num_classes:
        with pytest.raises(ValueError, match=f'ignore_index={ignore_index} is one of the'):
            semantic_targets(labels, num_classes=num_classes, ignore_index=ignore_index)
        return
    wrong = [value for value in values if not 0 <= value < num_classes and value != ignore_index]
    try:
        found = semantic_targets(labels, num_classes=num_classes, ignore_index=ignore_index)
    except LabelRangeError as error:
        assert wrong and error.found == sorted(set(wrong))
    else:
        assert not wrong
        assert int((found.segment_maps >= 0).sum()) == sum(0 <= value < num_classes for value in values)


DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def on(name: str, change) -> tuple:
    """A fault: the changed argument, and the change."""
    return name, change


def with_one(value: float):
    """Replace one value."""

    def change(x):
        x = x.clone()
        x.view(-1)[x.numel() // 2] = value
        return x

    return change


RESULTS = {
    semantic_labels: {},
    semantic_inference: {},
    general_inference: dict(object_threshold=0.3),
    panoptic_inference: dict(object_threshold=0.3),
    detr_inference: dict(object_threshold=0.3),
    instance_inference: {},
}
DAMAGES = {
    'none': None,
    'NaN class': on('class_logits', with_one(NAN)),
    'infinite class': on('class_logits', with_one(INFINITE)),
    'NaN mask': on('mask_logits', with_one(NAN)),
    'infinite mask': on('mask_logits', with_one(INFINITE)),
    'integer classes': on('class_logits', lambda x: x.long()),
    'integer masks': on('mask_logits', lambda x: x.long()),
    'a batch': on('class_logits', lambda x: x[None]),
    'no class': on('class_logits', lambda x: x[:, :1]),
    'other queries': on('mask_logits', lambda x: torch.cat([x, x[:1]])),
    'no grid': on('mask_logits', lambda x: x[:, :0]),
    'no pixels': on('out_size', lambda size: (0, size[1])),
    'half pixels': on('out_size', lambda size: (1.5, size[1])),
    'image beyond its padding': on('image_size', lambda size: (size[0] + 99, size[1])),
    'too few things': on('is_thing', lambda x: x[1:]),
    'things as numbers': on('is_thing', lambda x: x.long()),
    'NaN threshold': on('object_threshold', lambda _: NAN),
    'percent': on('object_threshold', lambda _: 30),
    'no instances': on('max_per_image', lambda _: 0),
}


@fuzz(250)
@given(
    st.sampled_from(list(RESULTS)), st.sampled_from(['none', *DAMAGES]), DTYPES, st.integers(0, 6), st.integers(1, 4),
    SIZES, SIZES, st.integers(0, 10**6),
)  # fmt: skip
@example(semantic_labels, 'NaN mask', torch.float32, 3, 2, (4, 4), (8, 8), 0)
@example(semantic_labels, 'NaN class', torch.float16, 3, 2, (4, 4), (8, 8), 0)
def test_results_of_an_image(function, damage, dtype, queries, num_classes, grid, out_size, seed):
    """Every dtype gives the result of the same values in float64; invalid input raises a ValueError."""
    generator = torch.Generator().manual_seed(seed)
    given = dict(
        class_logits=(3 * torch.randn(queries, num_classes + 1, generator=generator)).to(dtype),
        mask_logits=(3 * torch.randn(queries, *grid, generator=generator)).to(dtype),
        input_size=(2 * grid[0], 2 * grid[1]), image_size=(2 * grid[0] - 1, 2 * grid[1]), out_size=out_size,
        is_thing=torch.arange(num_classes) % 2 == 0, **RESULTS[function],
    )  # fmt: skip
    taken = inspect.signature(function).parameters
    if DAMAGES[damage] is not None:
        name, change = DAMAGES[damage]
        is_setting = name in ('is_thing', 'object_threshold', 'max_per_image')
        if (is_setting and name not in taken) or ('logits' in name and not queries):
            damage = 'none'
        else:
            given[name] = change(given.get(name))
    if damage != 'none':
        with pytest.raises(ValueError):
            call(function, given, taken)
        return
    found = call(function, given, taken)
    exact = call(function, {key: value.double() if 'logits' in key else value for key, value in given.items()}, taken)
    if function is semantic_labels:
        scores = call(semantic_inference, given, taken)
        chosen = scores.gather(0, found[None].long())
        assert found.shape == out_size and (chosen >= scores.amax(0) - 1e-4).all()
    elif function is semantic_inference:
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
    elif function is not instance_inference:
        maps = [getattr(result, 'ids', result) for result in (found, exact)]
        assert maps[0].shape == out_size and (maps[0] == maps[1]).double().mean() > 0.9
    else:
        torch.testing.assert_close(found.scores.double(), exact.scores.double(), rtol=1e-3, atol=1e-4)


def call(function, given: dict, taken):
    """Call a function of `RESULTS` with the arguments that it accepts."""
    masks = QueryMasks.of_logits(*(given[key] for key in ('mask_logits', 'input_size', 'image_size', 'out_size')))
    settings = {key: given[key] for key in set(given) & set(taken) - {'class_logits', 'masks'}}
    return function(given['class_logits'], masks, **settings)


def replaced(**changes):
    """A fault in the last target of a batch."""
    return lambda targets: [*targets[:-1], targets[-1]._replace(**{k: v(targets[-1]) for k, v in changes.items()})]


BATCHES = {
    'none': None,
    'label K': replaced(labels=lambda target: target.labels * 0 + 5),
    'label -1': replaced(labels=lambda target: target.labels * 0 - 1),
    'labels as numbers': replaced(labels=lambda target: target.labels.float()),
    'map and masks': replaced(masks=lambda target: target.all_masks()),
    'neither': replaced(segment_map=lambda target: None),
    'float map': replaced(segment_map=lambda target: target.segment_map.float()),
    'float masks': replaced(segment_map=lambda target: None, masks=lambda target: target.all_masks().float()),
    'one label too few': replaced(
        labels=lambda target: target.labels[1:], segment_map=lambda target: 0 * target.segment_map + 1
    ),
    'another size': replaced(segment_map=lambda target: target.segment_map[1:]),
    'no pixels': lambda targets: [target._replace(segment_map=target.segment_map[:0]) for target in targets],
    'no dimension': replaced(segment_map=lambda target: target.segment_map[0]),
    'too few': lambda targets: targets[:-1],
    'too many': lambda targets: [*targets, targets[-1]],
    'nothing': lambda targets: [],
}  # fmt: skip


@fuzz(150)
@given(st.sampled_from(['none', *BATCHES]), DTYPES, st.integers(1, 3), st.integers(0, 4), st.integers(0, 10**6))
@example('label K', torch.float32, 1, 2, 0)
@example('too few', torch.float32, 2, 2, 0)
@example('none', torch.float16, 2, 0, 0)
def test_losses_of_a_batch(damage, dtype, batch, segments, seed):
    """Every dtype gives the losses of the same values in float64; invalid targets raise a ValueError."""
    targets = [toy.make_target(segments if image else 2, seed=seed + image) for image in range(batch)][::-1]
    predictions = toy.make_predictions(batch=batch, seed=seed, dtype=dtype)
    criterion = toy.make_criterion()
    if BATCHES[damage] is not None and not (damage == 'another size' and batch == 1):
        targets = BATCHES[damage](targets)
        for function in (criterion, criterion.matcher):
            with pytest.raises(ValueError):
                function(predictions, targets)
        return
    found = criterion(predictions, targets)
    exact = [
        MaskPrediction(
            prediction.class_logits.double(),
            Product(prediction.masks.embed.double(), prediction.masks.features.double()),
        )
        for prediction in predictions
    ]
    shared = exact[0].masks.features
    exact = [prediction._replace(masks=prediction.masks._replace(features=shared)) for prediction in exact]
    expected = criterion(exact, targets)
    for key, value in expected.items():
        assert math.isclose(found[key].item(), value.item(), rel_tol=2e-2, abs_tol=1e-3), key
    sum(found.values()).backward()
    assert all(bool(p.class_logits.grad.isfinite().all()) for p in predictions)
