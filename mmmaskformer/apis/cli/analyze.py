"""Analyse a trained model as in the paper: inference modes, queries, thresholds.

``inference``   all inference modes of one checkpoint, in one pass: mIoU, PQ-St, SQ-St, RQ-St, PQ
``queries``     number and names of the classes that each query predicts
``classes``     number of classes per image of a dataset
``masks``       the masks of the queries that predict a class, side by side for several models
``thresholds``  panoptic quality over object and overlap thresholds, in one pass; why panoptic maps are empty

``mmmaskformer analyze ACTION --help`` has an example of each. Tables are written as CSV and Markdown, plots as PNG.
"""

import argparse

from mmmaskformer.apis.cli import epilog_of

SEMANTIC = 'configs/scenes/maskformer_tiny_1xb8-800_scenes.py work_dirs/quickstart/semantic/iter_800.pth'
PANOPTIC = 'configs/scenes/maskformer_tiny_1xb4-2600_scenes-panoptic.py work_dirs/quickstart/panoptic/iter_2600.pth'
EXAMPLES = {
    'inference': f'mmmaskformer analyze inference {PANOPTIC} --out work_dirs/analysis',
    'queries': f'mmmaskformer analyze queries {SEMANTIC} --out work_dirs/analysis',
    'classes': (
        'mmmaskformer analyze classes configs/scenes/maskformer_tiny_1xb8-800_scenes.py --out work_dirs/analysis'
    ),
    'masks': f'mmmaskformer analyze masks tree --model {SEMANTIC} --model {PANOPTIC} --out work_dirs/analysis',
    'thresholds': f'mmmaskformer analyze thresholds {PANOPTIC} --out work_dirs/analysis',
}
EXAMPLE = EXAMPLES['inference']


def add_arguments(parser):
    """Describe the arguments."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    inference = _action(actions, 'inference', 'all inference modes of one checkpoint, in one pass')
    _model(inference)
    inference.add_argument(
        '--modes', nargs='+', metavar='MODE', help='any of: semantic general panoptic detr (default: all of the model)'
    )
    queries = _action(actions, 'queries', 'the classes that each query predicts')
    _model(queries)
    queries.add_argument(
        '--object-threshold',
        type=float,
        default=0.0,
        metavar='P',
        help='count predictions with a class probability above it (default 0)',
    )
    classes = _action(actions, 'classes', 'number of classes per image of a dataset')
    classes.add_argument('config', help='config file')
    classes.add_argument(
        '--loader', default='train_dataloader', help='data loader to use: train_dataloader (default), val_dataloader, …'
    )
    masks = _action(actions, 'masks', 'masks of the queries that predict a class, for several models')
    masks.add_argument('class_name', metavar='CLASS', help='class name, such as car')
    masks.add_argument(
        '--model', nargs=2, action='append', required=True, metavar=('CONFIG', 'CHECKPOINT'), help='may be repeated'
    )
    masks.add_argument('--num', type=int, default=4, help='number of images (default 4)')
    masks.add_argument(
        '--object-threshold',
        type=float,
        default=0.3,
        metavar='P',
        help='draw queries with a class probability above it (default 0.3)',
    )
    _thresholds(_action(actions, 'thresholds', 'panoptic quality over object and overlap thresholds'))
    for action in (inference, queries, classes, masks):
        _common(action)


def _thresholds(parser):
    parser.add_argument('config', nargs='?', help='config file of a panoptic model')
    parser.add_argument('checkpoint', nargs='?', help='its weights, a .pth file')
    parser.add_argument(
        '--object', nargs='+', type=float, metavar='P', help='object thresholds (default 0, 0.05, … 0.95)'
    )
    parser.add_argument(
        '--overlap', nargs='+', type=float, metavar='P', help='overlap thresholds (default 0, 0.1, … 0.9)'
    )
    parser.add_argument('--store', metavar='FOLDER', help='store the predictions in this folder')
    parser.add_argument('--stored', metavar='FOLDER', help='read stored predictions, instead of CONFIG and CHECKPOINT')
    _common(parser)


def _action(actions, name, summary):
    return actions.add_parser(
        name,
        help=summary,
        description=f'{summary[0].upper()}{summary[1:]}.',
        epilog=epilog_of(EXAMPLES[name]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _model(parser):
    parser.add_argument('config', help='config file of a model with one of our heads')
    parser.add_argument('checkpoint', help='its weights, a .pth file')


def _common(parser):
    parser.add_argument('--out', required=True, help='folder to write tables and pictures into')
    parser.add_argument('--cfg-options', nargs='+', metavar='KEY=VALUE', help='entries to replace, such as a.b=1 c=2')


def run(args) -> int:
    """Analyse, print the result and the names of the files written."""
    from mmmaskformer.apis.trained import parse_options

    lines, files = ACTIONS[args.action](args, parse_options(args.cfg_options))
    print('\n'.join([*lines, *(f'{file}: written' for file in files)]))
    return 0


def _inference(args, options):
    from mmmaskformer.apis.analysis.inference import compare_inference

    _, _, files = compare_inference(args.config, args.checkpoint, args.out, args.modes, options)
    return [files[0].read_text(encoding='utf-8')], files


def _queries(args, options):
    from mmmaskformer.apis.analysis.queries import analyze_queries

    return analyze_queries(args.config, args.checkpoint, args.out, args.object_threshold, options)


def _classes(args, options):
    from mmmaskformer.apis.analysis.queries import analyze_classes

    return analyze_classes(args.config, args.out, args.loader, options)


def _masks(args, options):
    from mmmaskformer.apis.analysis.class_masks import draw_class_masks

    return draw_class_masks(args.class_name, args.model, args.out, args.num, args.object_threshold, options)


def _sweep_thresholds(args, options):
    from mmmaskformer.apis.analysis.thresholds import OBJECT, OVERLAP, sweep_stored, sweep_thresholds

    overlap = args.overlap or OVERLAP
    if args.stored is not None:
        if args.config is not None or args.store is not None or options:
            raise ValueError(
                '--stored: found CONFIG, --store or --cfg-options as well, expected only --stored: no model runs'
            )
        return sweep_stored(args.stored, args.out, args.object, overlap)
    if args.checkpoint is None:
        raise ValueError('thresholds: expected CONFIG and CHECKPOINT, or --stored FOLDER')
    return sweep_thresholds(args.config, args.checkpoint, args.out, args.object or OBJECT, overlap, args.store, options)


ACTIONS = {
    'inference': _inference,
    'queries': _queries,
    'classes': _classes,
    'masks': _masks,
    'thresholds': _sweep_thresholds,
}
