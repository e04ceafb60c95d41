"""Show what is installed, what is incompatible and the command that repairs it."""

EXAMPLE = 'mmmaskformer doctor'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument(
        '--time-limit', type=float, default=300, metavar='SECONDS', help='limit of the trial imports (default: 300)'
    )


def run(args) -> int:
    """Print the report; return 0 if training can start, otherwise 1."""
    from mmmaskformer.doctor.__main__ import check

    return check(args.time_limit)
