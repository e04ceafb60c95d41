"""Make the invented scenes: ``python tools/make_scenes.py data/scenes --num-train 400 --num-val 80 --seed 0``."""

import argparse
import sys

from mmmaskformer.datasets.scenes.files import write_scenes


def main() -> int:
    """Read the command line and make the set; returns the exit code."""
    parser = argparse.ArgumentParser(description='Make a small data set of invented scenes; needs no download.')
    parser.add_argument('root', help='folder to make, such as data/scenes')
    parser.add_argument('--num-train', type=int, default=400, help='number of training pictures (default 400)')
    parser.add_argument('--num-val', type=int, default=80, help='number of validation pictures (default 80)')
    parser.add_argument('--seed', type=int, default=0, help='other seeds give other pictures (default 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace a different set of scenes in that folder')
    args = parser.parse_args()
    try:
        written = write_scenes(args.root, args.num_train, args.num_val, args.seed, args.overwrite)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{args.root}: {"made" if written else "kept, it is complete and made with the same arguments"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
