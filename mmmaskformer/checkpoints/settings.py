"""Settings of a model that do not show in its weights."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """Settings of a model that do not show in its weights.

    Attributes:
        num_heads: attention heads of encoder and decoder.
        norm_groups: groups of the GroupNorms of the pixel decoder.
        dilations: dilations of the 3x3 convolutions of the last stage of a ResNet.
        classes: K names; empty if unknown.
        dataset_meta: what else is known of the classes.
        short_edge: length of the short edge after resizing, in pixels.
        max_size: limit of the long edge, in pixels.
        image_size: (H, W) of images after resizing; None to keep their aspect ratio.
        resize: whether images are resized at all.
        size_divisor: images are padded to a multiple of it.
        mean: mean for normalisation, for values from 0 to 255, red first.
        std: likewise.
        no_object_weight: weight of "no object" in the loss.
        backbone: settings of the backbone that differ from the published models, such as ``style`` and
            ``dilations`` of a ResNet, by their names in the hosts.
        red_first: whether the model takes images in RGB order.
        notes: sentences on settings of the source that cannot be stored here.
    """

    num_heads: int = 8
    norm_groups: int = 32
    dilations: tuple[int, ...] = (1, 1, 1)
    classes: tuple[str, ...] = ()
    dataset_meta: dict = field(default_factory=dict)
    short_edge: int = 512
    max_size: int = 2048
    image_size: tuple[int, int] | None = None
    resize: bool = True
    size_divisor: int = 32
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    no_object_weight: float = 0.1
    backbone: dict = field(default_factory=dict)
    red_first: bool = True
    notes: tuple[str, ...] = ()


def require_published_settings(settings: Settings, package: str, dilations: tuple[int, ...] = (1, 1, 1)) -> None:
    """Check that a model has the fixed settings of a package that cannot store others.

    Args:
        settings: settings of the model.
        package: name of the package, for the message.
        dilations: dilations of the last stage of a ResNet in the package.

    Raises:
        ValueError: if its backbone or its colour order differs.
    """
    if settings.backbone:
        found = ', '.join(f'{key}={value!r}' for key, value in settings.backbone.items())
        raise ValueError(
            f'{package} cannot store settings of the backbone, but the model has {found}. Fix: convert to another '
            'package'
        )
    if tuple(settings.dilations) != dilations:
        raise ValueError(
            f'{package} has the dilations {dilations} in the last stage of this backbone, but the model has '
            f'{tuple(settings.dilations)}. Fix: convert to another package'
        )
    if not settings.red_first:
        raise ValueError(
            f'{package} feeds RGB images, but this model takes BGR images (bgr_to_rgb=False). Fix: convert to another '
            'package'
        )
