"""Comparison of the settings of the shipped configs with the published ones."""

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

import mmmaskformer.registry  # noqa: F401 - before a config imports a host: makes mmcv-lite and new torch releases work
from mmmaskformer.apis.config_files import SHIPPED, read_config_file
from mmmaskformer.apis.model_size import COCO_INPUT, COCO_OUTPUT, build_on_meta, flops_of, groups_of
from mmmaskformer.apis.settings_of_config import settings_of

PUBLISHED = Path(__file__).with_name('published.json')
FLOPS_TOLERANCE = 0.02
"""Relative tolerance for FLOPs; counters differ in what they count, for example for attention."""


class Row(NamedTuple):
    """One setting of a config.

    Attributes:
        key: name of the setting.
        found: value of the resolved config.
        published: published value; None if none is published.
        equal: whether the values agree where both exist.
        reason: listed reason for a difference.
    """

    key: str
    found: Any
    published: Any
    equal: bool
    reason: str | None = None

    @property
    def verdict(self) -> str:
        """'equal', 'listed' (differs for a listed reason), 'differs', or 'not published'."""
        if self.published is None:
            return 'not published'
        return 'equal' if self.equal else 'listed' if self.reason else 'differs'


@cache
def published() -> dict:
    """Read the published values; 'about' in `published.json` describes them."""
    return json.loads(PUBLISHED.read_text(encoding='utf-8'))


def shipped_configs() -> list[Path]:
    """Every shipped config of a training run, sorted by path."""
    found = (path for path in SHIPPED.resolve().rglob('*.py') if '_base_' not in path.parts)
    return sorted(path for path in found if '__pycache__' not in path.parts)


def published_settings(name: str) -> dict[str, Any] | None:
    """The published settings of a model, with its recipes merged in order; None if it is not in the paper.

    Args:
        name: name of the config, without folder and suffix.
    """
    model = published()['models'].get(name)
    if model is None:
        return None
    merged: dict[str, Any] = {}
    for recipe in model['recipes']:
        merged |= published()['recipes'][recipe]
    return merged | {key: value for key, value in model.items() if key not in ('recipes', 'config')}


def audit(path: str | Path) -> list[Row]:
    """Compare a config with the published values.

    Args:
        path: a shipped config, or one of your own, for which every row is 'not published'.

    Returns:
        One row for each setting.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name of the file contradicts its batch size, or a published setting is missing in the config.
    """
    config, name = read_config_file(path), Path(path).stem
    try:
        found = settings_of(config) | _size_of_model(config)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f'config {path}: {error}; expected the config of a training run with one of our heads'
        ) from error
    expected = published_settings(name) or {}
    lost = sorted(set(expected) - set(found))
    if lost:
        raise ValueError(f'{name}: the config lacks the published settings {lost}. Fix: add them, or rename the config')
    return [_row(name, key, value, expected.get(key)) for key, value in found.items()]


def _size_of_model(config: Config) -> dict[str, Any]:
    """Parameters, optimiser groups and FLOPs, computed once for equal models with equal optimisers."""
    sizes = (config.crop_size,) if 'crop_size' in config else (COCO_INPUT, COCO_OUTPUT)
    key = json.dumps([config.model.to_dict(), config.optim_wrapper.to_dict(), sizes], sort_keys=True, default=str)
    key = re.sub(r'"init_cfg": \{[^}]*\}', '', key)  # pre-trained weights do not change the size
    if key not in _SIZES:
        model = build_on_meta(config)
        groups = groups_of(model, config)
        count = sum(groups.values())
        _SIZES[key] = {
            'groups': groups,
            'parameters': count,
            'printed parameters': f'{count / 1e6:.0f}M',
            'FLOPs': f'{flops_of(model, *sizes) / 1e9:.1f}G',
        }
    return _SIZES[key]


_SIZES: dict[str, dict[str, Any]] = {}


def _row(name: str, key: str, found: Any, expected: Any) -> Row:
    if key == 'FLOPs' and expected is not None:
        count, printed = float(found.rstrip('G')), float(expected.rstrip('G'))
        equal = abs(count - printed) <= FLOPS_TOLERANCE * printed
    else:
        equal = found == expected
    reason = None
    if expected is not None and not equal:
        listed = [row for row in published()['differences'] if row['key'] == key and fnmatch(name, row['models'])]
        reason = listed[0]['reason'] if listed else None
    return Row(key, found, expected, equal, reason)


def table(name: str, rows: Sequence[Row]) -> str:
    """Format the rows of a config as text.

    Args:
        name: name of the config, used as heading.
        rows: see `audit`.
    """
    beyond = published()['beyond'].get(name)
    lines = [name, *([f'  {beyond}'] if beyond else [])]
    width = max(len(row.key) for row in rows) + 2
    for row in rows:
        lines.append(f'  {row.key:<{width}}{row.verdict:<15}{_text(row.found)}')
        if row.verdict in ('differs', 'listed'):
            lines.append(f'  {"":<{width}}{"published":<15}{_text(row.published)}')
        elif row.key == 'FLOPs' and row.published is not None:
            lines[-1] += f', published {row.published}'
        if row.reason:
            lines.append(f'  {"":<{width}}{"because":<15}{row.reason}')
    return '\n'.join(lines)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return '; '.join(f'{key}: {number:,}' for key, number in value.items())
    if isinstance(value, list):
        return '; '.join(map(str, value))
    return f'{value:,}' if isinstance(value, int | float) and value > 9999 else f'{value}'
