"""Train a config once for each value of a setting and tabulate the results, as the paper's ablations do.

Each value is trained with the host's own script, in a folder of its own below --work-dir. After an interruption the
same command continues: finished runs are skipped, the interrupted one is resumed. sweep.md, sweep.csv and sweep.png are
written to --work-dir after each run.

A setting is any key of --cfg-options, or one of: queries, layers, self-attention, deep-supervision, seed. --case adds a
row that changes several entries; a case with only a name is the unchanged config, and config=FILE is another config:

  mmmaskformer sweep CONFIG --work-dir DIR --case bipartite --case "no self-attention" self-attention=False
  mmmaskformer sweep CONFIG --work-dir DIR --case MaskFormer --case PerPixelBaseline config=OTHER_CONFIG --seeds 0 1 2
"""

import shlex
import signal
import sys

EXAMPLE = (
    'mmmaskformer sweep configs/scenes/maskformer_tiny_1xb8-800_scenes.py --key queries --values 5 20 '
    '--work-dir work_dirs/sweep'
)
INTERRUPTED = 130
"""Exit status of a command that was ended by Ctrl-C."""


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--key', help='the setting, such as queries or optim_wrapper.optimizer.lr')
    parser.add_argument('--values', nargs='+', default=[], metavar='VALUE', help='its values')
    parser.add_argument(
        '--case',
        nargs='+',
        action='append',
        default=[],
        metavar=('NAME', 'KEY=VALUE'),
        help='a row that changes several settings, or has another config (config=FILE); may be repeated',
    )
    parser.add_argument('--work-dir', required=True, help='folder of the runs and of the tables')
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[], help='train all rows with the first seed, then with the next'
    )
    parser.add_argument('--metrics', nargs='+', metavar='NAME', help='columns (default: mIoU, PQ-St and PQ)')
    parser.add_argument(
        '--inference',
        action='store_true',
        help='measure each model on the test set too, as analyze inference does: semantic/mIoU, general/PQ_St etc.',
    )
    parser.add_argument(
        '--print',
        action='store_true',
        dest='print_only',
        help='print the commands of the unfinished runs, to run them elsewhere; a second call collects the results',
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='config entries of all runs')


def run(args) -> int:
    """Train and tabulate; returns 1 if a run failed."""
    from mmmaskformer.analysis.tables import markdown_table
    from mmmaskformer.apis.sweep_plan import cases_of, plan
    from mmmaskformer.apis.sweeping import arguments_of, finished, run_sweep

    cases = cases_of(args.key, args.values, args.case)
    runs = plan(args.config, cases, args.work_dir, args.seeds, args.cfg_options)
    if args.print_only:
        for each in runs:
            if finished(each) is None:
                print(shlex.join(['mmmaskformer', 'train', *arguments_of(args.config, each)]))
        return 0
    # A terminated sweep must end its training run as well, since the next sweep would train in the same folder.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sweep = run_sweep(args.config, runs, args.work_dir, args.metrics, args.key or 'case', inference=args.inference)
    except KeyboardInterrupt:
        print('stopped; the same command continues from here', file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)
    print('\n'.join([markdown_table(sweep.header, sweep.rows), *(f'{file}: written' for file in sweep.files)]))
    for folder, reason in sweep.failed.items():
        print(f'failed: {folder}: {reason}', file=sys.stderr)
    return 1 if sweep.failed else 0
