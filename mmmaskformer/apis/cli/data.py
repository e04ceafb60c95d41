"""Prepare a published dataset, or check a dataset before training.

``data prepare NAME`` checks the files of the publishers, converts them, and compares the numbers of images and classes
with the published ones. It can be run again at any time: it resumes where it stopped and keeps what is complete.
NAME is one of: ade20k, ade20k_full, cocostuff10k, cityscapes, mapillary, coco_panoptic, ade20k_panoptic,
cityscapes_panoptic, mapillary_panoptic. docs/datasets.md says what to download and where to unpack it.

``data check CONFIG`` builds the datasets of a config and checks their files, as a training run does at its start.
``data check NAME`` or ``data check FOLDER`` compares prepared datasets with their records.
"""

import argparse
import sys

from mmmaskformer.apis.cli import epilog_of

EXAMPLES = {
    'prepare': 'mmmaskformer data prepare ade20k',
    'check': 'mmmaskformer data check configs/scenes/maskformer_tiny_1xb8-800_scenes.py',
}
EXAMPLE = EXAMPLES['check']
INTERRUPTED = 130
"""Exit status of a command that was ended by Ctrl-C."""


def add_arguments(parser):
    """Describe the arguments."""
    actions = parser.add_subparsers(dest='action', metavar='prepare|check', required=True)
    prepare = _action(
        actions, 'prepare', 'prepare a published dataset', 'docs/datasets.md says what to download first.'
    )
    prepare.add_argument('name', help='name of the dataset, see mmmaskformer data --help')
    prepare.add_argument('--root', help='folder of the prepared dataset (default: the data_root of the configs)')
    prepare.add_argument('--source', help='folder with the unpacked files of the publishers (default: the root)')
    prepare.add_argument('--workers', type=int, help='number of processes (default: one per core)')
    prepare.add_argument(
        '--partial', action='store_true', help='accept a number of images other than the published one'
    )
    prepare.add_argument('--overwrite', action='store_true', help='start from the beginning and replace existing files')
    check = _action(actions, 'check', 'check the files of a dataset without training')
    check.add_argument('target', help='a config file, the name of a prepared dataset, or its folder')
    check.add_argument('--root', help='folder of the data (default: the data_root of the config)')
    check.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='entries of the config to replace')


def _action(actions, name, summary, more=''):
    return actions.add_parser(
        name,
        help=summary,
        description=f'{summary[0].upper()}{summary[1:]}. {more}'.rstrip(),
        epilog=epilog_of(EXAMPLES[name]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(args) -> int:
    """Prepare or check."""
    from mmmaskformer.apis.data_sets import check_data, prepare_data
    from mmmaskformer.apis.trained import parse_options

    if args.action == 'prepare':
        flags = dict(workers=args.workers, partial_set=args.partial, overwrite=args.overwrite)
        try:
            print(prepare_data(args.name, args.root, args.source, **flags))
        except KeyboardInterrupt:
            print('stopped before the end; the same command resumes from here', file=sys.stderr)
            return INTERRUPTED
        return 0
    print(check_data(args.target, args.root, parse_options(args.cfg_options)))
    return 0
