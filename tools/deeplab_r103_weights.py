"""Write detectron2's ImageNet weights of ResNet-101c as the checkpoint that the configs with r101c start from.

wget https://dl.fbaipublicfiles.com/detectron2/DeepLab/R-103.pkl
python tools/deeplab_r103_weights.py R-103.pkl checkpoints/deeplab_r103.pth
"""

import argparse
import sys
from io import BytesIO
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor

from mmmaskformer.apis.model_size import build_on_meta
from mmmaskformer.checkpoints.convert import renamed
from mmmaskformer.checkpoints.readers import read_pickle, tensors_of
from mmmaskformer.formats.whole_files import write_whole

CONFIG = Path(__file__).resolve().parents[1] / 'configs/ade20k/maskformer_r101c-d32_8xb2-160k_ade20k-512x512.py'


def convert(source: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename detectron2's tensors to MMSegmentation's.

    Args:
        source: the weights by detectron2's names, with or without 'backbone.'.
        expected: state dict of the backbone; its shapes count, not its values.

    Returns:
        Weights of the backbone, and the names that were left out: those of the classifier.

    Raises:
        ValueError: if a weight of the backbone is missing or has another shape.
    """
    full = {f'backbone.{name.removeprefix("backbone.")}': value for name, value in source.items()}
    names = {
        theirs: ours.removeprefix('backbone.') for theirs, ours in renamed(full, 'official', 'mmmaskformer').items()
    }
    found = {names[name]: value for name, value in full.items() if name in names}
    counters = {name for name in expected if name.endswith('num_batches_tracked')}
    missing = sorted(expected.keys() - counters - found.keys())
    wrong = [name for name, value in found.items() if name in expected and value.shape != expected[name].shape]
    if missing or wrong:
        raise ValueError(
            f'{len(missing)} weights of ResNet-101c are missing, such as {missing[:3]}, and {len(wrong)} have other '
            f"shapes, such as {wrong[:3]}; expected detectron2's DeepLab/R-103.pkl"
        )
    weights = {name: value.to(torch.float32) for name, value in found.items() if name in expected}
    return weights, sorted(name for name in full if names.get(name) not in weights)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the file; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='R-103.pkl')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--config', default=CONFIG, help='config whose backbone it is for (default: R101c on ADE20K)')
    args = parser.parse_args(arguments)
    try:
        with open(args.source, 'rb') as stream:
            content = read_pickle(stream, str(args.source))
        source = tensors_of(content.get('model', content))
        expected = build_on_meta(Config.fromfile(args.config)).backbone.state_dict()
        weights, left_out = convert(source, expected)
    except (ValueError, OSError) as error:
        print(f'error: {args.source}: {error}', file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    torch.save(weights, content)
    write_whole(args.out, content.getvalue())
    print(f'{args.out}: {len(weights)} tensors; left out: {", ".join(left_out) or "none"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
