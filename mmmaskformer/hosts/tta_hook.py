"""A hook for test-time augmentation that is not ours; a registry location for `HOOKS`."""

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmmaskformer.registry import HOOKS


@HOOKS.register_module()
class ScoresForTTAHook(Hook):
    """Lets our `EncoderDecoder` give the class scores that a ``tta_model`` other than ours reads.

    MMSegmentation's ``SegTTAModel`` merges ``seg_logits``, which our segmentor leaves out. The hook asks for them
    (``test_cfg.seg_logits``) and warns: that class puts the scores through a soft-max first, which is not the published
    average.
    """

    def before_test(self, runner: Runner) -> None:
        """Ask for scores where they are needed."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(model, BaseTTAModel) or type(model).__module__.startswith('mmmaskformer.'):
            return
        if not getattr(model.module, 'labels_only', False):
            return
        model.module.test_cfg['seg_logits'] = True
        print_log(
            f'tta_model {type(model).__name__} reads class scores (K, H, W), so they are made, with the memory that '
            'takes. SegTTAModel puts them through a soft-max before it averages, which gives other labels than '
            "published. tta_model=dict(type='mmmaskformer.SemanticTTAModel') averages as published, without them.",
            logger='current',
            level=logging.WARNING,
        )
