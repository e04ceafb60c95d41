"""One pass of a trained model over the test set of its config, with access to the predictions of its queries."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, autocast
from rich.progress import track
from torch import Tensor

from mmmaskformer.apis.trained import build_trained, building, read_config
from mmmaskformer.core.inference.query_masks import QueryMasks
from mmmaskformer.export.modules import head_of
from mmmaskformer.heads.fusion_head import masks_of_image
from mmmaskformer.hosts.hooks import classes_of_checkpoint, require_same_classes


class Trained(NamedTuple):
    """A trained model with the test data of its config.

    Attributes:
        config: the config, with --cfg-options applied.
        model: model of either host, in evaluation mode, on its device.
        loader: data loader of the test set.
    """

    config: Config
    model: Any
    loader: Any

    @property
    def dataset(self) -> Any:
        """The test set."""
        return self.loader.dataset

    @property
    def head(self) -> Any:
        """Our head."""
        return head_of(self.model)

    @property
    def is_panoptic(self) -> bool:
        """Whether the model is a detector of MMDetection with our fusion head."""
        return hasattr(self.model, 'panoptic_fusion_head')

    @property
    def is_thing(self) -> list[bool]:
        """K flags; all False for a semantic model."""
        return list(map(bool, getattr(self.head, 'is_thing', [False] * self.head.num_classes)))

    @contextmanager
    def testing(self) -> Iterator[None]:
        """Disable gradients and set the precision of the host's test, ``test_cfg.fp16`` of the config."""
        with torch.no_grad(), autocast(enabled=bool((self.config.get('test_cfg') or {}).get('fp16'))):
            yield


class ImagePrediction(NamedTuple):
    """The predictions of the queries for an image.

    Attributes:
        sample: the host's data sample.
        class_logits: (Q, K + 1) float.
        masks: masks of the same Q queries, at the size of the image file.
    """

    sample: Any
    class_logits: Tensor
    masks: QueryMasks


def load(config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None) -> Trained:
    """Build model and test set of a config and load the weights, on the best available device.

    Args:
        config: mmengine config file.
        checkpoint: a file, or an address that mmengine can load.
        cfg_options: entries to replace in the config.

    Raises:
        FileNotFoundError: if config or checkpoint does not exist.
        ValueError: if the config has no model of ours, the weights do not fit it, the test set has no image, or its
            classes are not those of the model or of the checkpoint.
    """
    return load_config(read_config(config, checkpoint, cfg_options, needs=('model', 'test_dataloader')), checkpoint)


def load_config(cfg: Config, checkpoint: str | Path) -> Trained:
    """Like `load`, for a config that has been read already."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model, content = build_trained(cfg, str(checkpoint))
    head_of(model)
    # Masks are multiplied out lazily, possibly outside `testing`; that must never need gradients.
    model = model.requires_grad_(False).to(get_device())
    with building('test_dataloader'):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    if not len(loader.dataset):
        raise ValueError(f'{cfg.filename}: the test set has no image, expected at least one. Fix: check its data_root')
    trained_classes = classes_of_checkpoint(content)
    require_same_classes('test_dataloader', loader.dataset, model, (), trained_classes, str(checkpoint))
    return Trained(cfg, model, loader)


def require_queries(trained: Trained, what: str) -> None:
    """Refuse per-pixel models.

    Args:
        trained: model and data.
        what: the analysis that needs queries, for the message.

    Raises:
        ValueError: if the model has no queries with classes.
    """
    if not getattr(trained.head, 'has_class_logits', True):
        raise ValueError(
            f'{what}: found {type(trained.head).__name__}, a per-pixel model, expected a model whose queries have '
            'classes. Fix: use config and checkpoint of a mask classification model'
        )


def predictions(trained: Trained) -> Iterator[ImagePrediction]:
    """Run the model on every image of its test set."""
    for batch in track(trained.loader, description='images'):
        yield from predict_batch(trained, batch)


def predict_image(trained: Trained, index: int) -> ImagePrediction:
    """Run the model on one image of its test set."""
    return predict_batch(trained, pseudo_collate([trained.dataset[index]]))[0]


def predict_batch(trained: Trained, batch: dict) -> list[ImagePrediction]:
    """Run the model on a batch of its data loader.

    Raises:
        ValueError: if the model is the host's own `EncoderDecoder`, or uses a sliding window.
    """
    with trained.testing():
        return _predict(trained, batch)


def _predict(trained: Trained, batch: dict) -> list[ImagePrediction]:
    model = trained.model
    data = model.data_preprocessor(batch, False)
    inputs, samples = data['inputs'], data['data_samples']
    if trained.is_panoptic:
        class_logits, mask_logits = trained.head.predict(model.extract_feat(inputs), samples)
        found = [
            (class_logits[i], masks_of_image(mask_logits, i, sample.metainfo, rescale=True))
            for i, sample in enumerate(samples)
        ]
    elif hasattr(model, 'query_masks'):
        found = model.query_masks(inputs, samples)
    else:
        raise ValueError(
            f"model.type: found {type(model).__name__}, expected 'mmmaskformer.EncoderDecoder', which provides "
            'access to its queries. Fix: --cfg-options model.type=mmmaskformer.EncoderDecoder'
        )
    return [ImagePrediction(sample, *outputs) for sample, outputs in zip(samples, found, strict=True)]
