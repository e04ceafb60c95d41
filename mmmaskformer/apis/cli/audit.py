"""Compare the settings of configs with the published ones: schedule, augmentation, test, parameters, FLOPs.

Without a config all shipped configs are compared, which takes about a minute. The exit status is 1 if a setting differs
without a listed reason.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLE = 'mmmaskformer audit configs/ade20k/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('configs', nargs='*', metavar='config', help='config files (default: all shipped configs)')
    parser.add_argument('--differences', action='store_true', help='print only settings that differ')


@contextmanager
def without_warnings() -> Iterator[None]:
    """Log only errors: otherwise every model logs its measured features."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def run(args) -> int:
    """Compare and print."""
    from mmmaskformer.apis.audit import audit, shipped_configs, table

    wrong = 0
    for path in map(Path, args.configs or shipped_configs()):
        with without_warnings():
            rows = audit(path)
        wrong += sum(row.verdict == 'differs' for row in rows)
        shown = [row for row in rows if row.verdict in ('differs', 'listed')] if args.differences else rows
        if shown:
            print(table(path.stem, shown), end='\n\n')
    print(f'{wrong} settings differ from the published ones without a listed reason')
    return 1 if wrong else 0
