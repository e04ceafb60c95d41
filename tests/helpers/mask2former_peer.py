"""MMDetection's Mask2Former head, whose matching and losses are the oracle for losses at points."""

from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmmaskformer.registry  # noqa: F401  must come before the hosts where mmcv-lite is installed


def make_head(*, num_classes: int, num_queries: int, num_points: int) -> nn.Module:
    """A head of toy width with the published losses and costs; its network is not used."""
    import mmdet.models  # noqa: F401  registers it

    init_default_scope('mmdet')
    attention = dict(embed_dims=8, num_heads=2, dropout=0.0, batch_first=True)
    ffn = dict(embed_dims=8, feedforward_channels=8, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU'))
    position = dict(num_feats=4, normalize=True)
    encoder = dict(
        num_layers=1,
        layer_cfg=dict(self_attn_cfg=attention | dict(num_levels=3, num_points=1), ffn_cfg=ffn),
    )
    costs = [
        dict(type='mmdet.ClassificationCost', weight=2.0),
        dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ]
    config = dict(
        type='mmdet.Mask2FormerHead',
        in_channels=[4, 8, 16, 32],
        feat_channels=8,
        out_channels=8,
        num_things_classes=num_classes,
        num_stuff_classes=0,
        num_queries=num_queries,
        num_transformer_feat_level=3,
        pixel_decoder=dict(
            type='mmdet.MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=2),
            act_cfg=dict(type='ReLU'),
            encoder=encoder,
            positional_encoding=position,
        ),
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=1,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
            return_intermediate=True,
        ),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss', loss_weight=2.0, reduction='mean', class_weight=[1.0] * num_classes + [0.1]
        ),
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0),
        loss_dice=dict(
            type='mmdet.DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0,
        ),
        train_cfg=dict(
            num_points=num_points,
            assigner=dict(type='mmdet.HungarianAssigner', match_costs=costs),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
        test_cfg=dict(),
    )
    return MODELS.build(ConfigDict(config))
