"""The one table of what can be named in a config: registers every class of the model under its public name."""

from mmmaskformer.core.modeling.feature_pyramid import SimpleFeaturePyramid
from mmmaskformer.core.modeling.mask_classifier import MaskClassifier
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder
from mmmaskformer.core.modeling.transformer_decoder import TransformerDecoder
from mmmaskformer.core.training.assignment import HungarianAssignment
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import HungarianMatcher, SetMatcher
from mmmaskformer.core.training.parts import (
    ClassCost,
    CrossEntropyDiceCost,
    CrossEntropyDiceLoss,
    FocalDiceCost,
    FocalDiceLoss,
)
from mmmaskformer.heads.fusion_head import MaskFormerFusionHead
from mmmaskformer.heads.maskformer_head import MaskFormerHead
from mmmaskformer.heads.panoptic_head import MaskFormerPanopticHead
from mmmaskformer.hosts.tta import PanopticTTAModel, SemanticTTAModel
from mmmaskformer.registry import MODELS, has_host

for part in (
    MaskClassifier,
    FPNPixelDecoder,
    TransformerEncoderPixelDecoder,
    SimpleFeaturePyramid,
    TransformerDecoder,
    SetMatcher,
    HungarianAssignment,
    HungarianMatcher,
    ClassCost,
    FocalDiceCost,
    CrossEntropyDiceCost,
    FocalDiceLoss,
    CrossEntropyDiceLoss,
    SetCriterion,
    MaskFormerHead,
    MaskFormerPanopticHead,
    MaskFormerFusionHead,
    SemanticTTAModel,
    PanopticTTAModel,
):
    MODELS.register_module(module=part)

if has_host('mmseg'):
    from mmmaskformer.hosts.mmseg import EncoderDecoder, SegDataPreProcessor

    MODELS.register_module(module=EncoderDecoder)
    MODELS.register_module(module=SegDataPreProcessor)

if has_host('mmdet'):

    def det_data_preprocessor(**settings):
        """Build our `DetDataPreprocessor`.

        Args:
            settings: its arguments.
        """
        from mmmaskformer.hosts.mmdet import DetDataPreprocessor

        return DetDataPreprocessor(**settings)

    MODELS.register_module(name='DetDataPreprocessor', module=det_data_preprocessor)
