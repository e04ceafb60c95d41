"""MMDetection's MaskFormer head of toy width, an oracle in the cases where it is correct.

These are batches without padding in which things come first and no image has more segments than queries.
"""

from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmaskformer.checkpoints.convert import renamed


def our_state_dict(peer: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of our head from the peer's."""
    names = renamed([f'panoptic_head.{key}' for key in peer], 'mmdet', 'mmmaskformer-panoptic')
    return {names[f'panoptic_head.{key}'].removeprefix('panoptic_head.'): value for key, value in peer.items()}


def make_head(*, num_things: int = 2, num_stuff: int = 3, encoder_layers: int = 1, num_layers: int = 2) -> nn.Module:
    """The counterpart of `hosts.make_detector`'s head, with random weights in every parameter, in evaluation mode."""
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
