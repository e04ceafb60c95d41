"""Generate a small dataset of synthetic scenes, with perfect labels; needs no download."""

EXAMPLE = 'mmmaskformer scenes work_dirs/few_scenes --num-train 8 --num-val 2'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('root', help='folder to create, such as data/scenes')
    parser.add_argument('--num-train', type=int, default=400, help='number of training images (default 400)')
    parser.add_argument('--num-val', type=int, default=80, help='number of validation images (default 80)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the random generator (default 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace a different set of scenes in that folder')


def run(args) -> int:
    """Generate the dataset, or keep an equal one that exists."""
    from mmmaskformer.datasets.scenes.files import write_scenes

    written = write_scenes(args.root, args.num_train, args.num_val, args.seed, args.overwrite)
    print(f'{args.root}: {"written" if written else "kept; it is complete and has the same arguments"}')
    return 0
