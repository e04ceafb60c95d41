"""Registers every class of the model under its public name, for use in configs."""

from mmmaskformer.core.modeling.feature_pyramid import SimpleFeaturePyramid
from mmmaskformer.core.modeling.mask_classifier import MaskClassifier
from mmmaskformer.core.modeling.per_pixel import PerPixelClassifier, PerPixelPlusClassifier
from mmmaskformer.core.modeling.pixel_decoder import FPNPixelDecoder, TransformerEncoderPixelDecoder
from mmmaskformer.core.modeling.transformer_decoder import TransformerDecoder
from mmmaskformer.core.training.assignment import FixedAssignment, HungarianAssignment
from mmmaskformer.core.training.boxes import BoxCost, BoxLoss
from mmmaskformer.core.training.criterion import SetCriterion
from mmmaskformer.core.training.matcher import BoxMatcher, FixedMatcher, HungarianMatcher, SetMatcher
from mmmaskformer.core.training.parts import (
    ClassCost,
    CrossEntropyDiceCost,
    CrossEntropyDiceLoss,
    FocalDiceCost,
    FocalDiceLoss,
)
from mmmaskformer.core.training.per_pixel_criterion import PixelCrossEntropy, PixelMaskLosses
from mmmaskformer.core.training.points import PointMaskCost, PointMaskLoss
from mmmaskformer.heads.fusion_head import MaskFormerFusionHead
from mmmaskformer.heads.maskformer_head import MaskFormerHead
from mmmaskformer.heads.panoptic_head import MaskFormerPanopticHead
from mmmaskformer.heads.per_pixel_head import PerPixelHead, PerPixelPlusHead
from mmmaskformer.hosts.tta import PanopticTTAModel, SemanticTTAModel
from mmmaskformer.registry import MODELS, has_host

for part in (
    MaskClassifier,
    PerPixelClassifier,
    PerPixelPlusClassifier,
    FPNPixelDecoder,
    TransformerEncoderPixelDecoder,
    SimpleFeaturePyramid,
    TransformerDecoder,
    SetMatcher,
    HungarianAssignment,
    FixedAssignment,
    HungarianMatcher,
    FixedMatcher,
    BoxMatcher,
    ClassCost,
    FocalDiceCost,
    CrossEntropyDiceCost,
    PointMaskCost,
    BoxCost,
    FocalDiceLoss,
    CrossEntropyDiceLoss,
    PointMaskLoss,
    BoxLoss,
    SetCriterion,
    PixelCrossEntropy,
    PixelMaskLosses,
    MaskFormerHead,
    MaskFormerPanopticHead,
    PerPixelHead,
    PerPixelPlusHead,
    MaskFormerFusionHead,
    SemanticTTAModel,
    PanopticTTAModel,
):
    MODELS.register_module(module=part)

if has_host('mmseg'):
    from mmmaskformer.hosts.mmseg import EncoderDecoder
    from mmmaskformer.hosts.mmseg_preprocessor import SegDataPreProcessor

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
