"""Conversion of pre-trained backbone weights of other packages to files for the hosts."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmmaskformer import __version__
from mmmaskformer.apis.zoo_downloads import original_file
from mmmaskformer.checkpoints.backbones import BackboneConversion, convert_backbone_weights
from mmmaskformer.checkpoints.layouts import take_apart
from mmmaskformer.checkpoints.writers import require_writable, write_checkpoint
from mmmaskformer.checkpoints.zoo import find_model, is_name
from mmmaskformer.formats import whole_files
from mmmaskformer.safe_loading import read_safely


class BackboneReport(NamedTuple):
    """The result of a conversion.

    Attributes:
        source: the file read.
        out: the file written.
        conversion: the converted weights.
    """

    source: Path
    out: Path
    conversion: BackboneConversion

    def lines(self) -> list[str]:
        """The report for the user, one line per item."""
        found = [f'{self.source}: {self.conversion.title}, {self.conversion.backbone}']
        for verb, reasons in (('left out', self.conversion.dropped), ('added', self.conversion.made)):
            for reason, count in Counter(reasons.values()).items():
                example = next(name for name, other in reasons.items() if other == reason)
                found.append(f'{count} {verb}: {reason} ({example}{", …" if count > 1 else ""})')
        return [*found, f'{self.out}: {len(self.conversion.weights)} weights written']


def convert_backbone(
    source: str | Path, out: str | Path, *, licence: str | None = None, force: bool = False
) -> BackboneReport:
    """Convert the weights of a backbone for ``init_cfg=dict(type='Pretrained', checkpoint=OUT)``.

    Args:
        source: file of detectron2, torchvision, timm, Swin's authors or DINOv2, recognised by the names of its weights;
            or ``zoo://NAME``.
        out: ``.pth`` or ``.safetensors`` file; its folder is created.
        licence: licence of the weights, if known; stored with them.
        force: replace an existing output.

    Raises:
        ValueError: if the source is damaged, incomplete or none of these.
        FileExistsError: if the output exists.
        OSError: if it cannot be read or written.
    """
    out = Path(out)
    whole_files.require_writable(out)
    require_writable(out, 'mmmaskformer', force, makes_folder=True)
    if is_name(source):
        licence = licence or find_model(str(source)).licence
        source = original_file(str(source))
    source = Path(source)
    if not source.is_file():
        what = 'a folder, expected a file of weights' if source.is_dir() else 'no such file'
        raise FileNotFoundError(f'{source}: {what}. Fix: correct the path')
    if out.exists() and out.resolve() == source.resolve():
        raise FileExistsError(f'{out} is the input, and is not replaced. Fix: choose another name')
    content = read_safely(source, 'cpu', name=str(source))
    if not isinstance(content, Mapping):
        raise ValueError(f'{source}: it holds a {type(content).__name__}, expected a dict of weights')
    try:
        conversion = convert_backbone_weights(take_apart(content).weights)
    except ValueError as error:
        raise ValueError(f'{source}: the backbone cannot be converted: {error}') from None
    meta = {
        'source': {'package': conversion.title, 'file': source.name, 'model': conversion.backbone},
        'mmmaskformer_version': __version__,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(out, conversion.weights, {'meta': meta | ({'licence': licence} if licence else {})})
    return BackboneReport(source, out, conversion)
