"""The runs of a sweep: which configs are trained, with which settings and seeds, in which folders."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mmmaskformer.apis.model_size import build_on_meta
from mmmaskformer.apis.trained import parse_options

SHORT_NAMES = {
    'queries': 'model.{head}.num_queries',
    'layers': 'model.{head}.transformer_decoder.num_layers',
    'self-attention': 'model.{head}.transformer_decoder.self_attention',
    'deep-supervision': 'model.{head}.deep_supervision',
    'seed': 'randomness.seed',
}
"""Names of settings of the paper's ablations; {head} is the head of the config's host."""
OF_A_CONFIG = 'config='
"""What the entry of a case starts with that names the config file it trains."""


class Case(NamedTuple):
    """A row of the table.

    Attributes:
        name: of the row.
        config: mmengine config file that it trains.
        options: entries KEY=VALUE of the config that it sets.
    """

    name: str
    config: str
    options: tuple[str, ...]


class Run(NamedTuple):
    """A training run of a sweep.

    Attributes:
        case: its row.
        seed: of the run; None for that of the config.
        folder: its ``work_dir``.
        options: all entries KEY=VALUE.
        fingerprint: of the whole config, to tell whether a finished run is still the one that is asked for.
        parameters: of the model.
    """

    case: Case
    seed: int | None
    folder: Path
    options: tuple[str, ...]
    fingerprint: str
    parameters: int


def cases_of(
    config: str | Path, key: str | None, values: Sequence[str], named: Sequence[Sequence[str]] = ()
) -> list[Case]:
    """The rows of a table.

    Args:
        config: mmengine config file that is trained, unless a case names another.
        key: of the config, or one of `SHORT_NAMES`; None if there are only named cases.
        values: of the key.
        named: cases that change several entries: name, then KEY=VALUE for each. Without an entry it is the config as it
            stands; the entry config=FILE stands for another config.

    Raises:
        ValueError: if there is no case, two have one name, one names two configs, or key and values do not come
            together.
    """
    if (key is None) != (not values):
        raise ValueError(f'found --key {key} and --values {list(values)}, expected both or neither')
    cases = [Case(value, str(config), (f'{key}={value}',)) for value in values]
    cases += [_named(name, options, str(config)) for name, *options in named]
    names = [case.name for case in cases]
    if not cases or len(set(names)) < len(names) or len(set(map(_folder_name, names))) < len(names):
        raise ValueError(f'cases: found {names}, expected one or more with different names. Fix: --values or --case')
    return cases


def _named(name: str, options: Sequence[str], config: str) -> Case:
    configs = [option.removeprefix(OF_A_CONFIG) for option in options if option.startswith(OF_A_CONFIG)]
    if len(configs) > 1:
        raise ValueError(f'case {name!r}: found the configs {configs}, expected one')
    others = tuple(option for option in options if not option.startswith(OF_A_CONFIG))
    return Case(name, configs[0] if configs else config, others)


def plan(
    cases: Sequence[Case], work_dir: str | Path, seeds: Sequence[int] = (), common: Sequence[str] = ()
) -> list[Run]:
    """Read the config of every run and build its model without weights, so that a wrong value is refused at once.

    Args:
        cases: the rows.
        work_dir: folder of the sweep.
        seeds: of the runs of each case; none for one run with the config's seed.
        common: entries KEY=VALUE of all runs.

    Returns:
        All cases with the first seed, then all with the second: a sweep that is cut short compares like with like.

    Raises:
        FileNotFoundError: if a config does not exist.
        ValueError: if a model cannot be built, naming the case.
    """
    no_seed: list[int | None] = [None]
    return [_planned(case, seed, Path(work_dir), common) for seed in list(seeds) or no_seed for case in cases]


def _planned(case: Case, seed: int | None, work_dir: Path, common: Sequence[str]) -> Run:
    if not Path(case.config).is_file():
        raise FileNotFoundError(f'config: {case.config} does not exist; expected an mmengine config file')
    cfg = Config.fromfile(case.config)
    head = 'panoptic_head' if 'panoptic_head' in cfg.model else 'decode_head'
    seed_option = [] if seed is None else [f'randomness.seed={seed}']
    options = [_long(option, head) for option in (*common, *case.options, *seed_option)]
    cfg.merge_from_dict(parse_options(options))
    try:
        parameters = sum(parameter.numel() for parameter in build_on_meta(cfg).parameters())
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise ValueError(f'case {case.name!r}: the model cannot be built: {error}') from error
    content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
    fingerprint = hashlib.sha256(content.encode()).hexdigest()
    folder = work_dir / (_folder_name(case.name) + ('' if seed is None else f'-seed{seed}'))
    return Run(case, seed, folder, tuple(options), fingerprint, parameters)


def _long(option: str, head: str) -> str:
    key, _, value = option.partition('=')
    return f'{SHORT_NAMES[key].format(head=head)}={value}' if key in SHORT_NAMES else option


def _folder_name(name: str) -> str:
    return ''.join(letter if letter.isalnum() or letter in '.-_' else '_' for letter in name)


def arguments_of(run: Run) -> list[str]:
    """Arguments of ``mmmaskformer train`` for a run; one that was interrupted goes on."""
    arguments = [run.case.config, '--work-dir', str(run.folder), '--resume']
    return arguments + (['--cfg-options', *run.options] if run.options else [])
