"""What the data preprocessors of both hosts check before they normalise."""


def require_bands(data: dict, num_values: int) -> None:
    """Check that mean and std have one value for each band of the images, or one in all.

    Args:
        data: ``inputs``, images (bands, H, W), and optionally ``data_samples``, which tell their paths.
        num_values: of mean and of std.

    Raises:
        ValueError: naming the first image with another number of bands.
    """
    for index, image in enumerate(data['inputs']):
        if num_values in (1, len(image)):
            continue
        samples = data.get('data_samples')
        path = samples[index].metainfo.get('img_path') if samples else None
        raise ValueError(
            f'image {path} has {len(image)} bands, but mean and std of the data preprocessor have {num_values} values. '
            'Fix: give mean and std one value for each band, or one in all, and the backbone in_channels; or load '
            "images with color_type='color', which gives three bands."
        )
