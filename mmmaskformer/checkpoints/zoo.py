"""Public weights by name: a catalogue with addresses, licences and results, and the cache of downloaded copies.

Imports the standard library only.
"""

import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmmaskformer import __version__

PREFIX = 'zoo://'
"""Prefix of zoo names where a checkpoint is expected."""

DATA = Path(__file__).with_name('zoo.json')
FOLDER_VARIABLE = 'MMMASKFORMER_CACHE'
OFFLINE_VARIABLE = 'MMMASKFORMER_OFFLINE'
MORE_VARIABLE = 'MMMASKFORMER_ZOO'
"""Environment variables: the cache folder, a switch that forbids downloads, and an additional list of models."""

PACKAGES = ('official', 'mmdet', 'mmseg', 'transformers', 'mmmaskformer', 'backbone')
TASKS = ('semantic', 'panoptic', 'backbone')
NEEDED = ('package', 'task', 'address', 'licence')
CHECKSUM = re.compile(r'md5:[0-9a-f]{1,32}|sha256:[0-9a-f]{1,64}')
NO = ('', '0', 'false', 'no', 'off')
"""Values of MMMASKFORMER_OFFLINE that allow downloads."""


@dataclass(frozen=True)
class ZooModel:
    """One entry.

    Attributes:
        name: name in the zoo.
        package: package whose format the file has, one of `PACKAGES`; ``backbone`` for pre-trained backbones.
        task: one of `TASKS`.
        address: URL of the file; for transformers of the folder, ending in a slash.
        licence: licence of the weights.
        released_as: name under which it was released.
        config: config of this package, below ``configs/`` or an absolute path; '' to generate one from the weights.
        classes: name of the class list, for files that do not store the classes.
        checksum: algorithm and first digits of the digest, ``md5:d8dbeb``; '' if none is published.
        result: published results in percent, by metric.
    """

    name: str
    package: str
    task: str
    address: str
    licence: str
    released_as: str = ''
    config: str = ''
    classes: str | None = None
    checksum: str = ''
    result: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        """Whether the weights are a folder of several files."""
        return self.package == 'transformers'

    @property
    def folder(self) -> Path:
        """The cache folder of this model."""
        return cache_folder() / self.name

    @property
    def original(self) -> Path:
        """The downloaded copy of the released file or folder."""
        return self.folder / ('original' if self.is_folder else _file_name(self.address))

    @property
    def converted(self) -> Path:
        """The converted copy. Another release, or another entry of the same name, may convert differently."""
        entry = json.dumps(asdict(self), sort_keys=True).encode()
        return self.folder / f'{self.name}-{__version__}-{hashlib.sha256(entry).hexdigest()[:8]}.pth'

    def describe_result(self) -> str:
        """The published result as text; '–' if there is none."""
        return ', '.join(f'{metric} {value:g}' for metric, value in self.result.items()) or '–'


def zoo_models() -> dict[str, ZooModel]:
    """All models by name: those of this package and those of the file in MMMASKFORMER_ZOO.

    Raises:
        ValueError: if an entry of that file is invalid.
        FileNotFoundError: if that file does not exist.
    """
    models = _read(DATA)
    more = os.environ.get(MORE_VARIABLE)
    if more and not Path(more).is_file():
        raise FileNotFoundError(f'{MORE_VARIABLE}={more}: no such file. Fix: correct the path, or unset the variable')
    return models | (_read(Path(more)) if more else {})


def find_model(reference: str) -> ZooModel:
    """Look up a model.

    Args:
        reference: name in the zoo or at its release, with or without ``zoo://``.

    Raises:
        ValueError: if there is no such model.
    """
    name = str(reference).removeprefix(PREFIX)
    models = zoo_models()
    found = models.get(name) or next((model for model in models.values() if model.released_as == name), None)
    if found is None:
        close = difflib.get_close_matches(name, models, 3, 0.4)
        raise ValueError(
            f'{PREFIX}{name}: no model has this name; found {len(models)} models'
            f"{', such as ' * bool(close)}{', '.join(close)}. Fix: choose one that 'mmmaskformer models' lists"
        )
    return found


def is_name(checkpoint: object) -> bool:
    """Whether a checkpoint is given as a zoo name."""
    return isinstance(checkpoint, str) and checkpoint.startswith(PREFIX)


def cache_folder() -> Path:
    """The folder of downloaded copies: MMMASKFORMER_CACHE, or a folder in the user's cache directory."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    if sys.platform == 'win32' and os.environ.get('LOCALAPPDATA'):
        return Path(os.environ['LOCALAPPDATA']) / 'mmmaskformer'
    base = os.environ.get('XDG_CACHE_HOME')
    return (Path(base) if base else Path.home() / '.cache') / 'mmmaskformer'


def is_offline() -> bool:
    """Whether MMMASKFORMER_OFFLINE forbids downloads."""
    return os.environ.get(OFFLINE_VARIABLE, '').strip().lower() not in NO


def _file_name(address: str) -> str:
    """The last part of the path of a URL."""
    return unquote(urlsplit(address).path).rsplit('/', 1)[-1]


def _read(path: Path) -> dict[str, ZooModel]:
    try:
        entries = dict(json.loads(path.read_text(encoding='utf-8'))['models'].items())
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read as a list of models ({type(error).__name__}: {error}); expected {{'models': "
            f'{{NAME: {{{", ".join(NEEDED)}, …}}}}}}. Fix: follow the format of {DATA}'
        ) from None
    return {name: _model(name, entry, path) for name, entry in entries.items()}


def _model(name: str, entry: object, path: Path) -> ZooModel:
    if not isinstance(entry, dict):
        raise ValueError(f'{path}: {name} is a {type(entry).__name__}, expected an object with {", ".join(NEEDED)}')
    known = {item.name for item in fields(ZooModel)} - {'name'}
    for key in (*(key for key in NEEDED if not entry.get(key)), *(key for key in entry if key not in known)):
        raise ValueError(f'{path}: {name} has {"no" if key in NEEDED else "the unknown"} key {key!r}. Fix: correct it')
    _require_types(name, entry, path)
    for key, choices in (('package', PACKAGES), ('task', TASKS)):
        if entry[key] not in choices:
            raise ValueError(f'{path}: {name} has {key}={entry[key]!r}, expected one of {", ".join(choices)}')
    is_folder, file = entry['package'] == 'transformers', _file_name(entry['address'])
    if '://' not in entry['address'] or is_folder != entry['address'].endswith('/') or file in ('.', '..'):
        raise ValueError(
            f'{path}: {name} has address={entry["address"]!r}, expected scheme://… of a file, or for transformers of a '
            'folder, with a slash at its end'
        )
    if not name or Path(name).name != name or name.startswith('.'):
        raise ValueError(f'{path}: {name!r} is not a valid name. Fix: use letters, digits and hyphens only')
    if entry.get('checksum') and not CHECKSUM.fullmatch(entry['checksum']):
        raise ValueError(
            f'{path}: {name} has checksum={entry["checksum"]!r}, expected md5:… or sha256:… with lower-case '
            'hexadecimal digits'
        )
    return ZooModel(name=name, **entry)


def _require_types(name: str, entry: dict, path: Path) -> None:
    """Check the types of the values of an entry.

    Raises:
        ValueError: with the key.
    """
    for key, value in entry.items():
        if key == 'result':
            numbers = isinstance(value, dict) and all(isinstance(number, int | float) for number in value.values())
            fits, wanted = numbers, 'an object of metrics and numbers in percent'
        else:
            fits, wanted = isinstance(value, str) or (key == 'classes' and value is None), 'a string'
        if not fits:
            raise ValueError(f'{path}: {name} has {key}={value!r}, expected {wanted}. Fix: correct it')
