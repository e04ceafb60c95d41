"""Pictures of the predictions of a trained model on the test set of its config.

Works with any semantic, panoptic or instance segmentation config of the mmengine family: models and datasets are built
from mmengine's registries and data samples are read by attribute, so no host is imported here.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, init_default_scope
from rich.progress import track

from mmmaskformer.apis.trained import build_trained, building, read_config
from mmmaskformer.datasets.inspection import input_paths
from mmmaskformer.formats.whole_files import require_writable
from mmmaskformer.hosts.hooks import classes_of_checkpoint, require_same_classes
from mmmaskformer.visualization.samples import (
    ClassList,
    class_list_of,
    read_example,
    require_field,
    spread_indices,
    write_pictures,
)
from mmmaskformer.visualization.sheet import Example


class Setup(NamedTuple):
    """A trained model with the data to draw.

    Attributes:
        model: model in evaluation mode, on its device.
        dataset: the host's dataset, with the test pipeline.
        classes: class names of the dataset.
    """

    model: BaseModel
    dataset: Any
    classes: ClassList


def draw_predictions(
    config: str | Path,
    checkpoint: str | Path,
    out_dir: str | Path,
    num: int = 8,
    cfg_options: dict | None = None,
    field: str | None = None,
) -> list[Path]:
    """Draw image, ground truth and prediction for some images of a config's test set.

    Args:
        config: mmengine config file of a segmentation model.
        checkpoint: its weights; a file, or a URL that mmengine can load.
        out_dir: folder for NAME.png of each image and overview.png, which shows up to four of them.
        num: number of images, spread evenly over the test set; all if it has fewer.
        cfg_options: entries to replace in the config, such as {'test_dataloader.dataset.data_root': '/data'}.
        field: field of the prediction to draw if the model returns several, see `mmmaskformer.heads.results`. None
            takes the first available one of panoptic, semantic, instances.

    Returns:
        The files written, overview.png last.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if they do not match, ``num`` is below 1, the model does not return ``field``, the data cannot be
            drawn, or ``out_dir`` contains files of the dataset.
        OSError: if ``out_dir`` is not writable.
    """
    if num < 1:
        raise ValueError(f'num: found {num}, expected at least 1')
    require_writable(out_dir, 'out_dir', folder=True)
    setup = load_setup(config, checkpoint, cfg_options)
    require_field(field)  # after the config has imported custom results
    require_other_folder(out_dir, setup.dataset)
    chosen = track(spread_indices(len(setup.dataset), num), description='predictions')
    return write_pictures((predict_example(setup, index, field) for index in chosen), setup.classes, out_dir)


def load_setup(config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None) -> Setup:
    """Build model and test set of a config and load the weights, on the best available device.

    Args:
        config: mmengine config file.
        checkpoint: a file, or an address that mmengine can load.
        cfg_options: entries to replace in the config.

    Returns:
        Everything needed to draw.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if it is not the config of a segmentation model, or the weights do not fit the model.
    """
    cfg = read_config(config, checkpoint, cfg_options, needs=('model', 'test_dataloader'))
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with building('test_dataloader.dataset'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    classes = class_list_of(dataset)
    model, content = build_trained(cfg, str(checkpoint))
    trained_classes = classes_of_checkpoint(content)
    require_same_classes('test_dataloader', dataset, model, (), trained_classes, str(checkpoint))
    return Setup(model.to(get_device()), dataset, classes)


def require_other_folder(out_dir: str | Path, dataset: Any) -> None:
    """Check that pictures, which have the names of the images, cannot replace images or label maps.

    Args:
        out_dir: folder of the pictures.
        dataset: dataset of the images.

    Raises:
        ValueError: if the folder contains images or annotations of the dataset.
    """
    found = next(
        (path for path in input_paths(dataset) if Path(path).parent.resolve() == Path(out_dir).resolve()), None
    )
    if found is not None:
        raise ValueError(
            f'out: pictures in {out_dir} could replace files of the dataset, such as {found}. Fix: choose another '
            'folder'
        )


def predict_example(setup: Setup, index: int, field: str | None = None) -> tuple[str, Example]:
    """Run the model on one image of the test set.

    Args:
        setup: result of `load_setup`.
        index: index of the image.
        field: prediction to draw, see `draw_predictions`.

    Returns:
        See `mmmaskformer.visualization.samples.read_example`.

    Raises:
        ValueError: likewise.
    """
    data = setup.dataset[index]
    with torch.no_grad():
        sample = setup.model.test_step(pseudo_collate([data]))[0]
    return read_example(sample, setup.classes, field, setup.dataset.get_data_info(index))
