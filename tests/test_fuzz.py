"""Generated input: whatever comes in, either the right answer comes out or an error that the function documents.

By default the same inputs are drawn each time, some 2,000. ``FUZZ=10 pytest tests/test_fuzz.py`` draws ten times as
many, others each time. Inputs that once found a fault are kept as examples.
"""

import copy
import io
import json
import math
import os
import warnings

import numpy as np
import pytest
import torch
from helpers import hosts
from helpers.checkpoints import Attack, content
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import METRICS, TRANSFORMS
from PIL import Image
from test_formats.test_coco_json import CONTENT as PANOPTIC

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
    """A few changes of bytes: (kind, position as a part of the length, value)."""
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
    """The checksums find every change of pixels: no other ids come out."""
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
def test_label_map(changes, name):
    """A damaged PNG is refused. A TIFF has no checksums: what is read are labels, of one channel."""
    data = damaged(LABEL_FILES[name], changes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow on odd TIFF tags
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
    """Where in a JSON file something is put, taken away or doubled."""
    step = st.tuples(st.sampled_from(['set', 'set', 'remove', 'double']), st.integers(0, 10**6), ODD_VALUES)
    return draw(st.lists(step, min_size=1, max_size=3))


def places(node, found: list | None = None) -> list[tuple]:
    """Every (container, key) of a JSON file."""
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
    """A head is built, or the key is named."""
    if value == 2**40 and place[-1] != 'ignore_index':
        value = 0  # a width that no memory could hold
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
    """A file that holds an attack, and one that does not."""
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
        warnings.simplefilter('ignore')  # of torch, on odd bytes
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
    wrong = [value for value in values if not 0 <= value < num_classes and value != ignore_index]
    try:
        found = semantic_targets(labels, num_classes=num_classes, ignore_index=ignore_index)
    except LabelRangeError as error:
        assert wrong and error.found == sorted(set(wrong))
    else:
        assert not wrong
        assert int((found.segment_maps >= 0).sum()) == sum(0 <= value < num_classes for value in values)
