"""Models of either host with their trained weights, outside a runner."""

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

import mmmaskformer.registry  # noqa: F401 - before a host is loaded: makes mmcv-lite and new torch releases work


def build_trained(cfg: Config, checkpoint: str) -> tuple[nn.Module, dict]:
    """Build the model of a config and load its weights, all of them: a partly random model would look like a bad one.

    Args:
        cfg: of a training run.
        checkpoint: a file, or an address that mmengine can load.

    Returns:
        The model in evaluation mode on the CPU, and the content of the checkpoint.

    Raises:
        ValueError: if the weights do not fit.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model_cfg = cfg.model.copy()
    # The runner does the same: a config may name the preprocessor outside the model.
    if cfg.get('data_preprocessor') is not None:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    try:
        content = load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    except RuntimeError as error:
        problem = ' '.join(str(error).split())
        raise ValueError(
            f'checkpoint: {checkpoint} does not fit the model of the config: {problem[:300]} … '
            'Fix: give the config that it was trained with'
        ) from error
    return model.eval(), content
