"""Train a model with the host's own script, without mim.

The config's default_scope chooses the host, MMSegmentation or MMDetection. All arguments are passed to its train.py; to
list them: mmmaskformer train CONFIG --help
"""

EXAMPLE = 'mmmaskformer train configs/scenes/maskformer_tiny_1xb8-800_scenes.py --work-dir work_dirs/scenes'
HOST_SCRIPT = 'train.py'


def add_arguments(parser):
    """Describe the arguments."""
    parser.add_argument('arguments', nargs='...', metavar='CONFIG …', help="config file and the script's own arguments")
