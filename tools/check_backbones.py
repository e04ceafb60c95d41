"""Test the head with the backbones and necks of MMSegmentation, MMDetection and timm, and print a table.

Each model is built from a config without in_channels and feature_strides, in the host's stock class, does one training
step on two images of 64 x 64 and one validation of an image of 65 x 97, or larger images if the backbone needs them.
Depths are reduced; nothing is downloaded.

python tools/check_backbones.py                          all tables, about five minutes on one core
python tools/check_backbones.py --group timm --only vit  some rows
python tools/check_backbones.py --write docs/backbones.md
"""

import argparse
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed
from mmmaskformer.formats.whole_files import write_whole
from mmmaskformer.heads.features import OneMapError

sys.path.insert(0, str(Path(__file__).parent))
from backbone_cases import CHANGES, MMDET, MMSEG_CONFIGS, PUBLISHED, SMALL, TIMM, TIMM_OF_ONE_SIZE  # noqa: E402

NUM_CLASSES, THINGS = 5, [1, 3]
HEAD = dict(
    num_classes=NUM_CLASSES,
    num_queries=5,
    channels=16,
    pixel_decoder=dict(type='mmmaskformer.FPNPixelDecoder', norm_groups=4),
    transformer_decoder=dict(type='mmmaskformer.TransformerDecoder', num_layers=1, num_heads=4, ffn_channels=16),
    matcher=dict(type='mmmaskformer.HungarianMatcher'),
    criterion=dict(type='mmmaskformer.SetCriterion'),
)
NORMALISATION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
VALIDATIONS = {'any size': 1, 'padded to 32': 32, 'in windows': 1}
"""Modes of validation in the order in which they are tried, and the divisor to which images are padded."""


class Case(NamedTuple):
    """A backbone and a neck.

    Attributes:
        group: 'mmseg', 'mmdet' or 'timm'.
        name: of the family, the backbone or timm's model.
        backbone: config.
        neck: config, or None.
        settings: changed settings, for the table.
        size: side of the training images; the sides of the test image are longer by 1 and by 33.
    """

    group: str
    name: str
    backbone: dict
    neck: dict | None
    settings: str = ''
    size: int = 64


class Result(NamedTuple):
    """Result of a case.

    Attributes:
        neck: type of the neck used, '' for none.
        channels: of the features, finest first; empty if the model could not be built.
        strides: likewise.
        validation: one of `VALIDATIONS`, or '' if it failed.
        reason: of a failure.
    """

    neck: str = ''
    channels: tuple[int, ...] = ()
    strides: tuple[float, ...] = ()
    validation: str = ''
    reason: str = ''


def cases(group: str, only: str = '') -> Iterator[Case]:
    """The cases of a group whose names contain `only`."""
    yield from (case for case in _cases(group, only) if only in case.name)


def _cases(group: str, only: str) -> Iterator[Case]:
    if group == 'mmdet':
        yield from (Case(group, name, backbone, neck) for name, (backbone, neck) in MMDET.items())
    elif group == 'timm':
        for name, settings in (TIMM | dict.fromkeys(TIMM_OF_ONE_SIZE, {})).items():
            backbone = dict(settings, type='TIMMBackbone', model_name=name, features_only=True, pretrained=False)
            written = ', '.join(f'{key}={value}' for key, value in settings.items() if key != 'depth')
            yield Case(group, name, backbone, None, written and f'`{written}`', TIMM_OF_ONE_SIZE.get(name, 64))
    else:
        for family, names in MMSEG_CONFIGS.items():
            if only in family:
                yield from (_mmseg_case(family, name) for name in names)
        yield from (Case('mmseg', name, backbone, None) for name, backbone in PUBLISHED.items())


def config_folder() -> Path:
    """Where MMSegmentation's configs are installed."""
    return Path(find_spec('mmseg').origin).parent / '.mim/configs'


def _mmseg_case(family: str, name: str) -> Case:
    path = next(path for path in config_folder().joinpath(family).rglob(f'{name}.py'))
    # Without mmpretrain, the configs that need it can still be read.
    model = Config.fromfile(path, import_custom_modules=False).model.to_dict()
    backbone, note = model.get('backbone') or model['image_encoder'], ''
    for key in ('init_cfg', 'pretrained'):
        backbone.pop(key, None)
    small = SMALL.get(backbone['type'], {})
    if 'num_layers' in small and not isinstance(backbone.get('out_indices', -1), int):
        small = small | dict(out_indices=(0, 1, 2, 3)[: len(backbone['out_indices'])])
    elif 'num_layers' in small:
        small = small | dict(out_indices=3)
    if family in CHANGES:
        changes, note = CHANGES[family]
        small = small | changes
    return Case('mmseg', family, backbone | small, model.get('neck'), note)


def check(case: Case) -> Result:
    """Build, train and validate one case.

    A backbone with a single feature map gets the neck that the head's message suggests.
    """
    neck = case.neck
    try:
        torch.manual_seed(0)
        try:
            model = build(case, neck)
        except OneMapError as error:
            if neck is not None:
                raise
            neck = dict(error.neck, out_channels=16)
            model = build(case, neck)
        model.init_weights()
    except Exception as error:  # its message goes into the table
        return Result(reason=reason_of(error))
    head = model.decode_head if hasattr(model, 'decode_head') else model.panoptic_head
    result = Result(neck['type'] if neck else '', tuple(head.in_channels), tuple(head.feature_strides))
    try:
        _train(model, head, case.size)
    except Exception as error:
        return result._replace(reason=f'training: {reason_of(error)}')
    reasons = []
    for name in VALIDATIONS:
        try:
            _validate(model, name, case.size)
        except Exception as error:
            reasons.append(reason_of(error))
        else:
            return result._replace(validation=name, reason='; '.join(reasons[:1]))
    return result._replace(reason=f'validation: {reasons[0]}')


def build(case: Case, neck: dict | None):
    """The host's stock model with this backbone and neck, without in_channels and feature_strides."""
    scope = 'mmdet' if case.group == 'mmdet' else 'mmseg'
    init_default_scope(scope)
    config = dict(backbone=case.backbone, neck=neck)
    if scope == 'mmseg':
        config |= dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='mmmaskformer.SegDataPreProcessor', size_divisor=1, **NORMALISATION),
            decode_head=dict(HEAD, type='mmmaskformer.MaskFormerHead'),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    else:
        config |= dict(
            type='MaskFormer',
            data_preprocessor=dict(type='DetDataPreprocessor', **NORMALISATION),
            panoptic_head=dict(HEAD, type='mmmaskformer.MaskFormerPanopticHead', things=THINGS),
            panoptic_fusion_head=dict(type='mmmaskformer.MaskFormerFusionHead'),
            test_cfg=dict(panoptic=dict()),
        )
    return MODELS.build(ConfigDict(config))


def reason_of(error: Exception) -> str:
    """The message as one line, for a cell of the table."""
    text = re.sub(r'\s+', ' ', str(error)).replace('|', '/').split('. Fix:')[0]
    return f'{type(error).__name__}: {text[:110]}'


def _train(model, head, size: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    data = model.train().data_preprocessor(_batch(model, [(size, size)] * 2), True)
    losses = model(**data, mode='loss')
    sum(loss for loss in losses.values()).backward()
    if not all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters()):
        raise RuntimeError('a gradient of the head is missing or not finite')
    if not any(p.grad is not None for p in model.backbone.parameters()):
        raise RuntimeError('no gradient reaches the backbone')
    optimizer.step()


@torch.no_grad()
def _validate(model, validation: str, size: int) -> None:
    divisor = VALIDATIONS[validation]
    preprocessor = model.eval().data_preprocessor
    if hasattr(model, 'decode_head'):
        preprocessor.test_cfg = dict(size_divisor=divisor)
        windows = dict(mode='slide', crop_size=(size, size), stride=(48, 48))
        model.test_cfg = ConfigDict(windows if validation == 'in windows' else dict(mode='whole'))
    else:
        preprocessor.pad_size_divisor = divisor
        if validation == 'in windows':
            raise NotImplementedError('MMDetection has no inference in windows')
    expected = (size + 1, size + 33)
    result = model.test_step(_batch(model, [expected]))[0]
    found = result.pred_sem_seg.data if hasattr(model, 'decode_head') else result.pred_panoptic_seg.sem_seg
    if tuple(found.shape[-2:]) != expected:
        raise RuntimeError(f'the result is {tuple(found.shape[-2:])}, expected {expected}')


def _batch(model, sizes) -> dict:
    generator = np.random.default_rng(0)
    images = [torch.from_numpy(generator.integers(0, 256, (3, *size), dtype=np.uint8)) for size in sizes]
    sample = _seg_sample if hasattr(model, 'decode_head') else _det_sample
    return dict(inputs=images, data_samples=[sample(size) for size in sizes])


def _seg_sample(size):
    from mmseg.structures import SegDataSample

    labels = torch.arange(size[0])[:, None].expand(size) // 16 % NUM_CLASSES
    sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, pad_shape=size))
    sample.gt_sem_seg = PixelData(data=labels[None])
    return sample


def _det_sample(size):
    from mmdet.structures import DetDataSample

    segment_map = (torch.arange(size[0])[:, None].expand(size) // 16 % 4).to(torch.int16)
    sample = DetDataSample(metainfo=dict(ori_shape=size, img_shape=size, img_id=0))
    sample.gt_panoptic_seg = PixelData(metainfo=dict(labels=(0, 1, 2, 1)), segment_map=segment_map[None])
    return sample


def table(group: str, only: str = '') -> list[str]:
    """Rows of the table of a group; families of MMSegmentation with the same backbone, neck and result share one."""
    results, rows = {}, {}
    for case in cases(group, only):
        key = json.dumps([case.backbone, case.neck], default=str, sort_keys=True)
        if key not in results:
            print(f'{group}: {case.name}', file=sys.stderr, flush=True)
            results[key] = check(case)
        names = rows.setdefault(cells(case, results[key]), [])
        if case.name not in names:
            names.append(case.name)
    return [f'| {", ".join(names)} | {" | ".join(columns)} |' for columns, names in rows.items()]


def cells(case: Case, result: Result) -> tuple[str, ...]:
    """The columns of a table after the first one."""
    outcome = result.validation or 'no'
    if result.reason:
        outcome += f' ({result.reason})'
    return (
        case.settings if case.group == 'timm' else f'`{case.backbone["type"]}` {case.settings}'.strip(),
        result.neck and f'`{result.neck.removeprefix("mmmaskformer.")}`',
        *(', '.join(f'{value:g}' for value in values) for values in (result.channels, result.strides)),
        outcome,
    )


FIRST_COLUMNS = {'mmseg': 'config folder | backbone', 'mmdet': 'name | backbone', 'timm': 'model | settings'}
HEADER = '| {} | neck | channels | strides | validation |\n|---|---|---|---|---|---|'


def write(path: Path, group: str, rows: list[str]) -> None:
    """Replace the table between the marks ``<!-- GROUP -->`` and ``<!-- end of GROUP -->`` of a Markdown file."""
    start, end = f'<!-- {group} -->\n', f'<!-- end of {group} -->'
    text = path.read_text(encoding='utf-8')
    before, rest = text.split(start)
    lines = [HEADER.format(FIRST_COLUMNS[group]), *rows]
    write_whole(path, before + start + '\n'.join(lines) + '\n' + end + rest.split(end)[1])


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--group', choices=list(FIRST_COLUMNS), help='one of the tables; all by default')
    parser.add_argument('--only', default='', metavar='TEXT', help='only rows whose name contains this')
    parser.add_argument('--write', type=Path, metavar='FILE', help='Markdown file whose tables are replaced')
    args = parser.parse_args()
    if args.write and args.only:
        parser.error('--write replaces whole tables; leave out --only')
    logging.disable(logging.WARNING)
    warnings.simplefilter('ignore')
    if find_spec('mmpretrain'):
        import mmpretrain.models  # noqa: F401  registers its backbones
    for group in [args.group] if args.group else FIRST_COLUMNS:
        rows = table(group, args.only)
        if args.write:
            write(args.write, group, rows)
        else:
            print('\n'.join([HEADER.format(FIRST_COLUMNS[group]), *rows]), flush=True)


if __name__ == '__main__':
    main()
