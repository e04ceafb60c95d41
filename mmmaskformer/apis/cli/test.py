"""Test a model with the host's own script, without mim.

The config's default_scope chooses the host, MMSegmentation or MMDetection. All arguments are passed to its test.py; to
list them: mmmaskformer test CONFIG --help
"""

EXAMPLE = (
    'mmmaskformer test configs/scenes/maskformer_tiny_1xb8-800_scenes.py work_dirs/quickstart/semantic/iter_800.pth'
)
HOST_SCRIPT = 'test.py'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument(
        'arguments', nargs='...', metavar='CONFIG CHECKPOINT …', help="config, weights and the script's own arguments"
    )
