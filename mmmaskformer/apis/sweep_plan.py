"""The runs of a sweep: their configs are read and their models built before the first training."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mmmaskformer.apis.config_files import read_config_file
from mmmaskformer.apis.model_size import build_on_meta
from mmmaskformer.apis.trained import parse_options
from mmmaskformer.formats.whole_files import require_writable
from mmmaskformer.run_settings import unread_options

FILES = ('sweep.md', 'sweep.csv', 'sweep.png')
"""Files of a sweep, next to the folders of its runs."""
SHORT_NAMES = {
    'queries': 'model.{head}.num_queries',
    'layers': 'model.{head}.transformer_decoder.num_layers',
    'self-attention': 'model.{head}.transformer_decoder.self_attention',
    'deep-supervision': 'model.{head}.deep_supervision',
    'seed': 'randomness.seed',
}
"""Names of settings of the paper's ablations; {head} is the head of the config's host."""
NEEDED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
VALIDATION = ('val_dataloader', 'val_evaluator', 'val_cfg')
OF_A_CONFIG = 'config='
"""Prefix of the entry of a case that names another config file."""
LARGEST_SEED = 2**32 - 1
"""Limit of numpy's generators."""
LONGEST_NAME = 150
"""Maximum bytes of a case's name in the name of its folder; file systems allow 255 in total."""


class Case(NamedTuple):
    """A row of the table: the config with some entries changed.

    Attributes:
        name: name of the row.
        options: config entries KEY=VALUE that it sets.
        config: its config file; None for that of the sweep.
    """

    name: str
    options: tuple[str, ...]
    config: str | None = None


class Run(NamedTuple):
    """A training run of a sweep.

    Attributes:
        case: its row.
        seed: seed of the run; None for the one of the config.
        folder: its work dir.
        options: all config entries KEY=VALUE.
        fingerprint: hash of the complete config, which shows whether a finished run still matches it.
        parameters: number of parameters of the model.
        config: the complete config.
    """

    case: Case
    seed: int | None
    folder: Path
    options: tuple[str, ...]
    fingerprint: str
    parameters: int
    config: Config

    @property
    def iterations(self) -> int | None:
        """Iterations of the run; None if it trains by epoch."""
        return self.config.train_cfg.get('max_iters')


def cases_of(key: str | None, values: Sequence[str], named: Sequence[Sequence[str]] = ()) -> list[Case]:
    """Build the rows of the table.

    Args:
        key: config key, or one of `SHORT_NAMES`; None if there are only named cases.
        values: values of the key.
        named: cases that change several entries: a name, then KEY=VALUE for each entry. A case with only a
            name is the unchanged config; config=FILE is another config.

    Raises:
        ValueError: if there is no case, two cases have the same name, a case has two configs, or only one of key and
            values is given.
    """
    if (key is None) != (not values):
        raise ValueError(f'found --key {key} and --values {list(values)}, expected both or neither')
    cases = [Case(value, (f'{key}={value}',)) for value in values]
    cases += [_named(name, options) for name, *options in named]
    names = [case.name for case in cases]
    if not cases or len(set(names)) < len(names) or len(set(map(_folder_name, names))) < len(names):
        raise ValueError(
            f'cases: found {names}, expected one or more whose names differ in letters or digits. Fix: --values or '
            '--case'
        )
    for name in names:
        if not name.strip('. ') or _folder_name(name) in FILES:
            raise ValueError(f'cases: found the name {name!r}, expected a valid folder name. Fix: --case NAME')
    return cases


def _named(name: str, options: Sequence[str]) -> Case:
    configs = [option.removeprefix(OF_A_CONFIG) for option in options if option.startswith(OF_A_CONFIG)]
    if len(configs) > 1:
        raise ValueError(f'case {name!r}: found the configs {configs}, expected at most one')
    others = tuple(option for option in options if not option.startswith(OF_A_CONFIG))
    return Case(name, others, configs[0] if configs else None)


def plan(
    config: str | Path,
    cases: Sequence[Case],
    work_dir: str | Path,
    seeds: Sequence[int] = (),
    common: Sequence[str] = (),
) -> list[Run]:
    """Read the config of every run and build its model on the meta device, so that a wrong value is refused at once.

    Args:
        config: mmengine config file of a training run, for the cases that name no other.
        cases: the rows.
        work_dir: folder of the sweep.
        seeds: one run of each case per seed; without seeds, one run with the seed of the config.
        common: config entries KEY=VALUE of all runs.

    Returns:
        All cases with the first seed, then all cases with the second, so that an interrupted sweep can be compared.

    Raises:
        FileNotFoundError: if a config does not exist.
        ValueError: if the model of a case cannot be built, a config has no training or no validation, an entry
            changes nothing, or a seed is invalid or occurs twice.
        OSError: if ``work_dir`` cannot be written.
    """
    for file in dict.fromkeys(case.config or str(config) for case in cases):
        read_config_file(file)
    if not all(0 <= seed <= LARGEST_SEED for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f'--seeds: found {list(seeds)}, expected different whole numbers from 0 to {LARGEST_SEED}')
    require_writable(work_dir, 'work_dir', folder=True)
    no_seed: list[int | None] = [None]
    runs = []
    for seed in list(seeds) or no_seed:
        for case in cases:
            name = _folder_name(case.name) + ('' if seed is None else f'-seed{seed}')
            runs.append(_planned(case.config or str(config), case, seed, Path(work_dir) / name, common))
    return runs


def _planned(config: str, case: Case, seed: int | None, folder: Path, common: Sequence[str]) -> Run:
    cfg = read_config_file(config)
    for key in NEEDED:
        if cfg.get(key) is None:
            raise ValueError(f'{config}: found no {key!r}, expected the config of a training run')
    head = 'panoptic_head' if 'panoptic_head' in cfg.model else 'decode_head'
    seed_option = [] if seed is None else [f'randomness.seed={seed}']
    options = [_long(option, head) for option in (*common, *case.options, *seed_option)]
    try:
        entries = parse_options(options)
        cfg.merge_from_dict(entries)
        parameters = sum(parameter.numel() for parameter in build_on_meta(cfg).parameters())
    except Exception as error:  # any part of the model may raise
        raise ValueError(f'case {case.name!r}: the model cannot be built: {error}') from error
    if unread := unread_options(cfg, entries):
        raise ValueError(f'case {case.name!r}: {unread[0]}')
    missing = [key for key in VALIDATION if cfg.get(key) is None]
    if missing:
        raise ValueError(
            f'{config}: found no {" and no ".join(map(repr, missing))}, expected a config with a validation, whose '
            'results fill the table'
        )
    content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    return Run(case, seed, folder, tuple(options), fingerprint, parameters, cfg)


def _long(option: str, head: str) -> str:
    key, sign, value = option.partition('=')
    return f'{SHORT_NAMES[key].format(head=head)}={value}' if key in SHORT_NAMES and sign else option


def _folder_name(name: str) -> str:
    """The name of a case's folder without the seed."""
    plain = ''.join(letter if letter.isalnum() or letter in '.-_' else '_' for letter in name)
    if len(plain.encode()) <= LONGEST_NAME:
        return plain
    start = plain.encode()[: LONGEST_NAME - 9].decode(errors='ignore')
    return f'{start}-{hashlib.sha256(name.encode()).hexdigest()[:8]}'
