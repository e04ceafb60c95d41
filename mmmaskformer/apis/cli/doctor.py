"""Show what is installed, what does not fit together and the command that repairs it."""

EXAMPLE = 'mmmaskformer doctor'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument(
        '--time-limit', type=float, default=300, metavar='SECONDS', help='for the trial imports (default: 300)'
    )


def run(args) -> int:
    """Print the report; returns 0 when training can start, 1 when not."""
    from mmmaskformer.doctor.__main__ import check

    return check(args.time_limit)
