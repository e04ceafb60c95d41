"""MMDetection's own MaskFormer head of toy width, and its parameter names in ours: an oracle where it is right.

It is right when no image of the batch is padded, things come first and no image has more segments than queries.
"""

import re

from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

# MMDetection's name -> ours in `MaskFormerPanopticHead`.
RULES = (
    (r'^pixel_decoder\.encoder_in_proj\.', 'pixel_decoder.memory_proj.'),
    (r'^pixel_decoder\.encoder_out_proj\.', 'pixel_decoder.pyramid.top_conv.'),
    (r'^pixel_decoder\.encoder\.layers\.', 'pixel_decoder.layers.'),
    (r'^pixel_decoder\.(lateral_convs|output_convs)\.', r'pixel_decoder.pyramid.\1.'),
    (r'^pixel_decoder\.mask_feature\.', 'pixel_decoder.pyramid.mask_conv.'),
    (r'^query_embed\.', 'transformer_decoder.query_embed.'),
    (r'^transformer_decoder\.post_norm\.', 'transformer_decoder.norm.'),
    (r'^cls_embed\.', 'class_embed.'),
    (r'^mask_embed\.0\.', 'mask_embed.layers.0.'),
    (r'^mask_embed\.2\.', 'mask_embed.layers.1.'),
    (r'^mask_embed\.4\.', 'mask_embed.layers.2.'),
    (r'\.gn\.', '.norm.'),
    (r'_attn\.attn\.', '_attn.'),
    (r'\.ffn\.layers\.0\.0\.', '.linear1.'),
    (r'\.ffn\.layers\.1\.', '.linear2.'),
    (r'\.norms\.0\.', '.norm1.'),
    (r'\.norms\.1\.', '.norm2.'),
    (r'\.norms\.2\.', '.norm3.'),
)


def our_state_dict(peer: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of our head from the peer's."""
    renamed = {}
    for key, value in peer.items():
        name = key
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        renamed[f'classifier.{name}'] = value
    return renamed


def make_head(*, num_things: int = 2, num_stuff: int = 3, encoder_layers: int = 1, num_layers: int = 2) -> nn.Module:
    """The peer of `hosts.make_detector`'s head, with random weights in every parameter, in evaluation mode."""
    attention = dict(embed_dims=16, num_heads=4, dropout=0.0, batch_first=True)
    ffn = dict(embed_dims=16, feedforward_channels=24, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))
    layer = dict(self_attn_cfg=attention, ffn_cfg=ffn)
    position = dict(num_feats=8, normalize=True)
    costs = [
        dict(type='mmdet.ClassificationCost', weight=1.0),
        dict(type='mmdet.FocalLossCost', weight=20.0, binary_input=True),
        dict(type='mmdet.DiceCost', weight=1.0, pred_act=True, eps=1.0),
    ]
    weights = [1.0] * (num_things + num_stuff) + [0.1]
    head = MODELS.build(
        ConfigDict(
            type='mmdet.MaskFormerHead',
            in_channels=[4, 8, 16, 32],
            feat_channels=16,
            out_channels=16,
            num_things_classes=num_things,
            num_stuff_classes=num_stuff,
            num_queries=7,
            pixel_decoder=dict(
                type='mmdet.TransformerEncoderPixelDecoder',
                norm_cfg=dict(type='GN', num_groups=4),
                act_cfg=dict(type='ReLU'),
                encoder=dict(num_layers=encoder_layers, layer_cfg=layer),
                positional_encoding=position,
            ),
            positional_encoding=position,
            transformer_decoder=dict(
                num_layers=num_layers, layer_cfg=layer | dict(cross_attn_cfg=attention), return_intermediate=True
            ),
            loss_cls=dict(type='mmdet.CrossEntropyLoss', loss_weight=1.0, reduction='mean', class_weight=weights),
            loss_mask=dict(
                type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, reduction='mean', loss_weight=20.0
            ),
            loss_dice=dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0),
            train_cfg=dict(
                assigner=dict(type='mmdet.HungarianAssigner', match_costs=costs),
                sampler=dict(type='mmdet.MaskPseudoSampler'),
            ),
            test_cfg=dict(),
        )
    )
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return head.eval()
