"""Tables that map the weight names of each package to neutral names.

The neutral names belong to no package; those of the backbone are MMSegmentation's, which MMDetection shares.
`templates` explains the fields, `names` the parts of a table.

Sources: official MaskFormer da3e60d on detectron2 02b5c4e; MMDetection 3.3.0; MMSegmentation 1.2.2; transformers 4.57.6
and 5.24.0, which write the same names.
"""

from mmmaskformer.checkpoints.names import KINDS, Choice, Made, Names, Rows, table
from mmmaskformer.checkpoints.templates import Template

# ------------------------------------------------------------------ this package

OUR_DECODER: Rows = (
    ('class_embed.{wb}', 'class_embed.{wb}'),
    ('pixel_classifier.{wb}', 'pixel_classifier.{wb}'),
    ('mask_embed.{m}.{wb}', 'mask_embed.layers.{m}.{wb}'),
    ('query_embed.weight', 'transformer_decoder.query_embed.weight'),
    ('memory_proj.{wb}', 'transformer_decoder.memory_proj.{wb}'),
    ('decoder.{d}.self_attn.in.{wb}', 'transformer_decoder.layers.{d}.self_attn.in_proj_{wb}'),
    ('decoder.{d}.self_attn.out.{wb}', 'transformer_decoder.layers.{d}.self_attn.out_proj.{wb}'),
    ('decoder.{d}.cross_attn.in.{wb}', 'transformer_decoder.layers.{d}.cross_attn.in_proj_{wb}'),
    ('decoder.{d}.cross_attn.out.{wb}', 'transformer_decoder.layers.{d}.cross_attn.out_proj.{wb}'),
    ('decoder.{d}.linear.{c}.{wb}', 'transformer_decoder.layers.{d}.linear{c1}.{wb}'),
    ('decoder.{d}.norm.{c}.{wb}', 'transformer_decoder.layers.{d}.norm{c1}.{wb}'),
    ('decoder_norm.{wb}', 'transformer_decoder.norm.{wb}'),
)
OUR_PYRAMID: Rows = (
    ('top.conv.weight', 'pixel_decoder.top_conv.conv.weight'),
    ('top.norm.{wb}', 'pixel_decoder.top_conv.norm.{wb}'),
    ('lateral.{l}.conv.weight', 'pixel_decoder.lateral_convs.{l}.conv.weight'),
    ('lateral.{l}.norm.{wb}', 'pixel_decoder.lateral_convs.{l}.norm.{wb}'),
    ('output.{l}.conv.weight', 'pixel_decoder.output_convs.{l}.conv.weight'),
    ('output.{l}.norm.{wb}', 'pixel_decoder.output_convs.{l}.norm.{wb}'),
    ('mask_conv.{wb}', 'pixel_decoder.mask_conv.{wb}'),
)
OUR_ENCODER: Rows = (
    ('encoder_proj.{wb}', 'pixel_decoder.memory_proj.{wb}'),
    ('encoder.{e}.self_attn.in.{wb}', 'pixel_decoder.layers.{e}.self_attn.in_proj_{wb}'),
    ('encoder.{e}.self_attn.out.{wb}', 'pixel_decoder.layers.{e}.self_attn.out_proj.{wb}'),
    ('encoder.{e}.linear.{c}.{wb}', 'pixel_decoder.layers.{e}.linear{c1}.{wb}'),
    ('encoder.{e}.norm.{c}.{wb}', 'pixel_decoder.layers.{e}.norm{c1}.{wb}'),
)

# ------------------------------------------------------------------ backbones of MMSegmentation, MMDetection

HOST_RESNET: Rows = tuple(
    (f'backbone.{name}', name)
    for name in (
        'conv1.weight',
        'bn1.{bn}',
        'bn1.num_batches_tracked',
        'stem.{c}.weight',
        'stem.{c}.{bn}',
        'stem.{c}.num_batches_tracked',
        'layer{s1}.{b}.conv{c1}.weight',
        'layer{s1}.{b}.bn{c1}.{bn}',
        'layer{s1}.{b}.bn{c1}.num_batches_tracked',
        'layer{s1}.{b}.downsample.0.weight',
        'layer{s1}.{b}.downsample.1.{bn}',
        'layer{s1}.{b}.downsample.1.num_batches_tracked',
    )
)
HOST_SWIN: Rows = tuple(
    (f'backbone.{name}', name)
    for name in (
        'patch_embed.projection.{wb}',
        'patch_embed.norm.{wb}',
        'stages.{s}.blocks.{b}.norm{c1}.{wb}',
        'stages.{s}.blocks.{b}.attn.w_msa.relative_position_bias_table',
        'stages.{s}.blocks.{b}.attn.w_msa.qkv.{wb}',
        'stages.{s}.blocks.{b}.attn.w_msa.proj.{wb}',
        'stages.{s}.blocks.{b}.ffn.layers.0.0.{wb}',
        'stages.{s}.blocks.{b}.ffn.layers.1.{wb}',
        'stages.{s}.downsample.norm.{wb}',
        'stages.{s}.downsample.reduction.weight',
        'norm{s}.{wb}',
    )
)
NORM_REASON = 'a norm whose output the model does not use'
INDEX_REASON = 'an index table that follows from the window size'
BOX_REASON = 'the box head, which only matching by boxes reads, in training'
LOSS_REASON = "class weights of the loss, which are this package's no_object_weight"
HOST_MADE = (
    Made(
        Template('backbone.stages.{s}.blocks.{b}.attn.w_msa.relative_position_index'),
        'relative_position_index',
        INDEX_REASON,
    ),
)

# ------------------------------------------------------------------ the published code

OFFICIAL_DECODER: Rows = (
    ('class_embed.{wb}', 'predictor.class_embed.{wb}'),
    ('pixel_classifier.{wb}', 'predictor.{wb}'),
    ('mask_embed.{m}.{wb}', 'predictor.mask_embed.layers.{m}.{wb}'),
    ('query_embed.weight', 'predictor.query_embed.weight'),
    ('memory_proj.{wb}', 'predictor.input_proj.{wb}'),
    ('decoder.{d}.self_attn.in.{wb}', 'predictor.transformer.decoder.layers.{d}.self_attn.in_proj_{wb}'),
    ('decoder.{d}.self_attn.out.{wb}', 'predictor.transformer.decoder.layers.{d}.self_attn.out_proj.{wb}'),
    ('decoder.{d}.cross_attn.in.{wb}', 'predictor.transformer.decoder.layers.{d}.multihead_attn.in_proj_{wb}'),
    ('decoder.{d}.cross_attn.out.{wb}', 'predictor.transformer.decoder.layers.{d}.multihead_attn.out_proj.{wb}'),
    ('decoder.{d}.linear.{c}.{wb}', 'predictor.transformer.decoder.layers.{d}.linear{c1}.{wb}'),
    ('decoder.{d}.norm.{c}.{wb}', 'predictor.transformer.decoder.layers.{d}.norm{c1}.{wb}'),
    ('decoder_norm.{wb}', 'predictor.transformer.decoder.norm.{wb}'),
)
OFFICIAL_PYRAMID: Rows = (
    ('top.conv.weight', 'layer_4.weight'),
    ('top.norm.{wb}', 'layer_4.norm.{wb}'),
    ('lateral.{l}.conv.weight', 'adapter_{l1}.weight'),
    ('lateral.{l}.norm.{wb}', 'adapter_{l1}.norm.{wb}'),
    ('output.{l}.conv.weight', 'layer_{l1}.weight'),
    ('output.{l}.norm.{wb}', 'layer_{l1}.norm.{wb}'),
    ('mask_conv.{wb}', 'mask_features.{wb}'),
)
OFFICIAL_ENCODER: Rows = (
    ('encoder_proj.{wb}', 'input_proj.{wb}'),
    ('encoder.{e}.self_attn.in.{wb}', 'transformer.encoder.layers.{e}.self_attn.in_proj_{wb}'),
    ('encoder.{e}.self_attn.out.{wb}', 'transformer.encoder.layers.{e}.self_attn.out_proj.{wb}'),
    ('encoder.{e}.linear.{c}.{wb}', 'transformer.encoder.layers.{e}.linear{c1}.{wb}'),
    ('encoder.{e}.norm.{c}.{wb}', 'transformer.encoder.layers.{e}.norm{c1}.{wb}'),
)
OFFICIAL_RESNET: Rows = (
    ('backbone.layer{s1}.{b}.conv{c1}.weight', 'res{s2}.{b}.conv{c1}.weight'),
    ('backbone.layer{s1}.{b}.bn{c1}.{bn}', 'res{s2}.{b}.conv{c1}.norm.{bn}'),
    ('backbone.layer{s1}.{b}.downsample.0.weight', 'res{s2}.{b}.shortcut.weight'),
    ('backbone.layer{s1}.{b}.downsample.1.{bn}', 'res{s2}.{b}.shortcut.norm.{bn}'),
)
OFFICIAL_BASIC_STEM: Rows = (
    ('backbone.conv1.weight', 'stem.conv1.weight'),
    ('backbone.bn1.{bn}', 'stem.conv1.norm.{bn}'),
)
OFFICIAL_DEEPLAB_STEM: Rows = (
    ('backbone.stem.0.weight', 'stem.conv1.weight'),
    ('backbone.stem.1.{bn}', 'stem.conv1.norm.{bn}'),
    ('backbone.stem.3.weight', 'stem.conv2.weight'),
    ('backbone.stem.4.{bn}', 'stem.conv2.norm.{bn}'),
    ('backbone.stem.6.weight', 'stem.conv3.weight'),
    ('backbone.stem.7.{bn}', 'stem.conv3.norm.{bn}'),
)
OFFICIAL_SWIN: Rows = (
    ('backbone.patch_embed.projection.{wb}', 'patch_embed.proj.{wb}'),
    ('backbone.patch_embed.norm.{wb}', 'patch_embed.norm.{wb}'),
    ('backbone.stages.{s}.blocks.{b}.norm{c1}.{wb}', 'layers.{s}.blocks.{b}.norm{c1}.{wb}'),
    (
        'backbone.stages.{s}.blocks.{b}.attn.w_msa.relative_position_bias_table',
        'layers.{s}.blocks.{b}.attn.relative_position_bias_table',
    ),
    ('backbone.stages.{s}.blocks.{b}.attn.w_msa.qkv.{wb}', 'layers.{s}.blocks.{b}.attn.qkv.{wb}'),
    ('backbone.stages.{s}.blocks.{b}.attn.w_msa.proj.{wb}', 'layers.{s}.blocks.{b}.attn.proj.{wb}'),
    ('backbone.stages.{s}.blocks.{b}.ffn.layers.0.0.{wb}', 'layers.{s}.blocks.{b}.mlp.fc1.{wb}'),
    ('backbone.stages.{s}.blocks.{b}.ffn.layers.1.{wb}', 'layers.{s}.blocks.{b}.mlp.fc2.{wb}'),
    ('backbone.stages.{s}.downsample.norm.{wb}', 'layers.{s}.downsample.norm.{wb}'),
    ('backbone.stages.{s}.downsample.reduction.weight', 'layers.{s}.downsample.reduction.weight'),
    ('backbone.norm{s}.{wb}', 'norm{s}.{wb}'),
)

# ------------------------------------------------------------------ MMDetection, MMSegmentation

HOST_DECODER: Rows = (
    ('class_embed.{wb}', 'cls_embed.{wb}'),
    ('mask_embed.0.{wb}', 'mask_embed.0.{wb}'),
    ('mask_embed.1.{wb}', 'mask_embed.2.{wb}'),
    ('mask_embed.2.{wb}', 'mask_embed.4.{wb}'),
    ('query_embed.weight', 'query_embed.weight'),
    ('memory_proj.{wb}', 'decoder_input_proj.{wb}'),
    ('decoder.{d}.self_attn.in.{wb}', 'transformer_decoder.layers.{d}.self_attn.attn.in_proj_{wb}'),
    ('decoder.{d}.self_attn.out.{wb}', 'transformer_decoder.layers.{d}.self_attn.attn.out_proj.{wb}'),
    ('decoder.{d}.cross_attn.in.{wb}', 'transformer_decoder.layers.{d}.cross_attn.attn.in_proj_{wb}'),
    ('decoder.{d}.cross_attn.out.{wb}', 'transformer_decoder.layers.{d}.cross_attn.attn.out_proj.{wb}'),
    ('decoder.{d}.linear.0.{wb}', 'transformer_decoder.layers.{d}.ffn.layers.0.0.{wb}'),
    ('decoder.{d}.linear.1.{wb}', 'transformer_decoder.layers.{d}.ffn.layers.1.{wb}'),
    ('decoder.{d}.norm.{c}.{wb}', 'transformer_decoder.layers.{d}.norms.{c}.{wb}'),
    ('decoder_norm.{wb}', 'transformer_decoder.post_norm.{wb}'),
    ('lateral.{l}.conv.weight', 'pixel_decoder.lateral_convs.{l}.conv.weight'),
    ('lateral.{l}.norm.{wb}', 'pixel_decoder.lateral_convs.{l}.gn.{wb}'),
    ('output.{l}.conv.weight', 'pixel_decoder.output_convs.{l}.conv.weight'),
    ('output.{l}.norm.{wb}', 'pixel_decoder.output_convs.{l}.gn.{wb}'),
    ('mask_conv.{wb}', 'pixel_decoder.mask_feature.{wb}'),
)
HOST_PYRAMID: Rows = (
    ('top.conv.weight', 'pixel_decoder.last_feat_conv.conv.weight'),
    ('top.norm.{wb}', 'pixel_decoder.last_feat_conv.gn.{wb}'),
)
HOST_ENCODER: Rows = (
    ('top.conv.weight', 'pixel_decoder.encoder_out_proj.conv.weight'),
    ('top.norm.{wb}', 'pixel_decoder.encoder_out_proj.gn.{wb}'),
    ('encoder_proj.{wb}', 'pixel_decoder.encoder_in_proj.{wb}'),
    ('encoder.{e}.self_attn.in.{wb}', 'pixel_decoder.encoder.layers.{e}.self_attn.attn.in_proj_{wb}'),
    ('encoder.{e}.self_attn.out.{wb}', 'pixel_decoder.encoder.layers.{e}.self_attn.attn.out_proj.{wb}'),
    ('encoder.{e}.linear.0.{wb}', 'pixel_decoder.encoder.layers.{e}.ffn.layers.0.0.{wb}'),
    ('encoder.{e}.linear.1.{wb}', 'pixel_decoder.encoder.layers.{e}.ffn.layers.1.{wb}'),
    ('encoder.{e}.norm.{c}.{wb}', 'pixel_decoder.encoder.layers.{e}.norms.{c}.{wb}'),
)

# ------------------------------------------------------------------ transformers

HUB_DECODER: Rows = (
    ('class_embed.{wb}', 'class_predictor.{wb}'),
    ('mask_embed.{m}.{wb}', 'mask_embedder.{m}.0.{wb}'),
    ('query_embed.weight', 'model.transformer_module.queries_embedder.weight'),
    ('memory_proj.{wb}', 'model.transformer_module.input_projection.{wb}'),
    ('decoder.{d}.self_attn.in.{wb}', 'model.transformer_module.decoder.layers.{d}.self_attn.{q,k,v}_proj.{wb}'),
    ('decoder.{d}.self_attn.out.{wb}', 'model.transformer_module.decoder.layers.{d}.self_attn.out_proj.{wb}'),
    ('decoder.{d}.cross_attn.in.{wb}', 'model.transformer_module.decoder.layers.{d}.encoder_attn.{q,k,v}_proj.{wb}'),
    ('decoder.{d}.cross_attn.out.{wb}', 'model.transformer_module.decoder.layers.{d}.encoder_attn.out_proj.{wb}'),
    ('decoder.{d}.linear.{c}.{wb}', 'model.transformer_module.decoder.layers.{d}.fc{c1}.{wb}'),
    ('decoder.{d}.norm.0.{wb}', 'model.transformer_module.decoder.layers.{d}.self_attn_layer_norm.{wb}'),
    ('decoder.{d}.norm.1.{wb}', 'model.transformer_module.decoder.layers.{d}.encoder_attn_layer_norm.{wb}'),
    ('decoder.{d}.norm.2.{wb}', 'model.transformer_module.decoder.layers.{d}.final_layer_norm.{wb}'),
    ('decoder_norm.{wb}', 'model.transformer_module.decoder.layernorm.{wb}'),
    ('top.conv.weight', 'model.pixel_level_module.decoder.fpn.stem.0.weight'),
    ('top.norm.{wb}', 'model.pixel_level_module.decoder.fpn.stem.1.{wb}'),
    ('lateral.{l}.conv.weight', 'model.pixel_level_module.decoder.fpn.layers.{r}.proj.0.weight'),
    ('lateral.{l}.norm.{wb}', 'model.pixel_level_module.decoder.fpn.layers.{r}.proj.1.{wb}'),
    ('output.{l}.conv.weight', 'model.pixel_level_module.decoder.fpn.layers.{r}.block.0.weight'),
    ('output.{l}.norm.{wb}', 'model.pixel_level_module.decoder.fpn.layers.{r}.block.1.{wb}'),
    ('mask_conv.{wb}', 'model.pixel_level_module.decoder.mask_projection.{wb}'),
)
HUB_RESNET: Rows = tuple(
    (f'backbone.{neutral}.{fields}', f'{theirs}.{fields}')
    for neutral, theirs, fields in (
        ('conv1', 'embedder.embedder.convolution', 'weight'),
        ('bn1', 'embedder.embedder.normalization', '{bn}'),
        ('bn1', 'embedder.embedder.normalization', 'num_batches_tracked'),
        ('layer{s1}.{b}.conv{c1}', 'encoder.stages.{s}.layers.{b}.layer.{c}.convolution', 'weight'),
        ('layer{s1}.{b}.bn{c1}', 'encoder.stages.{s}.layers.{b}.layer.{c}.normalization', '{bn}'),
        ('layer{s1}.{b}.bn{c1}', 'encoder.stages.{s}.layers.{b}.layer.{c}.normalization', 'num_batches_tracked'),
        ('layer{s1}.{b}.downsample.0', 'encoder.stages.{s}.layers.{b}.shortcut.convolution', 'weight'),
        ('layer{s1}.{b}.downsample.1', 'encoder.stages.{s}.layers.{b}.shortcut.normalization', '{bn}'),
        ('layer{s1}.{b}.downsample.1', 'encoder.stages.{s}.layers.{b}.shortcut.normalization', 'num_batches_tracked'),
    )
)
HUB_SWIN: Rows = tuple(
    (f'backbone.{neutral}', theirs)
    for neutral, theirs in (
        ('patch_embed.projection.{wb}', 'model.embeddings.patch_embeddings.projection.{wb}'),
        ('patch_embed.norm.{wb}', 'model.embeddings.norm.{wb}'),
        ('stages.{s}.blocks.{b}.norm1.{wb}', 'model.encoder.layers.{s}.blocks.{b}.layernorm_before.{wb}'),
        ('stages.{s}.blocks.{b}.norm2.{wb}', 'model.encoder.layers.{s}.blocks.{b}.layernorm_after.{wb}'),
        (
            'stages.{s}.blocks.{b}.attn.w_msa.relative_position_bias_table',
            'model.encoder.layers.{s}.blocks.{b}.attention.self.relative_position_bias_table',
        ),
        (
            'stages.{s}.blocks.{b}.attn.w_msa.qkv.{wb}',
            'model.encoder.layers.{s}.blocks.{b}.attention.self.{query,key,value}.{wb}',
        ),
        (
            'stages.{s}.blocks.{b}.attn.w_msa.proj.{wb}',
            'model.encoder.layers.{s}.blocks.{b}.attention.output.dense.{wb}',
        ),
        ('stages.{s}.blocks.{b}.ffn.layers.0.0.{wb}', 'model.encoder.layers.{s}.blocks.{b}.intermediate.dense.{wb}'),
        ('stages.{s}.blocks.{b}.ffn.layers.1.{wb}', 'model.encoder.layers.{s}.blocks.{b}.output.dense.{wb}'),
        ('stages.{s}.downsample.norm.{wb}', 'model.encoder.layers.{s}.downsample.norm.{wb}'),
        ('stages.{s}.downsample.reduction.weight', 'model.encoder.layers.{s}.downsample.reduction.weight'),
        ('norm{s}.{wb}', 'hidden_states_norms.{s}.{wb}'),
    )
)

# ------------------------------------------------------------------ all of them


def _ours(head: str) -> Names:
    """Names of this package in the model of a host."""
    prefix = f'{head}.classifier.'
    behind_encoder = tuple(
        (neutral, f'pixel_decoder.pyramid.{theirs.removeprefix("pixel_decoder.")}') for neutral, theirs in OUR_PYRAMID
    )
    return Names(
        title='a MaskFormer of mmmaskformer',
        rows=table(OUR_DECODER, prefix) + table(HOST_RESNET) + table(HOST_SWIN),
        choices=(
            Choice(
                theirs=f'{prefix}pixel_decoder.memory_proj.weight',
                neutral='encoder_proj.weight',
                rows=table(OUR_ENCODER + behind_encoder, prefix),
                otherwise=table(OUR_PYRAMID, prefix),
            ),
        ),
        made=(*HOST_MADE, Made(Template(f'{prefix}box_embed.layers.{{m}}.{{wb}}'), 'nothing', BOX_REASON)),
        open_backbone=True,
        kinds=KINDS,
    )


def _host(title: str, head: str) -> Names:
    """Names of a host's own MaskFormer."""
    return Names(
        title=title,
        rows=table(HOST_DECODER, f'{head}.') + table(HOST_RESNET) + table(HOST_SWIN),
        choices=(
            Choice(
                theirs=f'{head}.pixel_decoder.encoder_in_proj.weight',
                neutral='encoder_proj.weight',
                rows=table(HOST_ENCODER, f'{head}.'),
                otherwise=table(HOST_PYRAMID, f'{head}.'),
            ),
        ),
        made=HOST_MADE,
        open_backbone=True,
    )


OFFICIAL = Names(
    title="detectron2's MaskFormer, the published one",
    rows=table(OFFICIAL_DECODER + OFFICIAL_PYRAMID + OFFICIAL_ENCODER, 'sem_seg_head.')
    + table(OFFICIAL_RESNET)
    + table(OFFICIAL_SWIN, merges=True),
    choices=(
        Choice(
            theirs='backbone.stem.conv2.weight',
            neutral='backbone.stem.0.weight',
            rows=table(OFFICIAL_DEEPLAB_STEM),
            otherwise=table(OFFICIAL_BASIC_STEM),
        ),
    ),
    made=(
        Made(
            Template('backbone.layers.{s}.blocks.{b}.attn.relative_position_index'),
            'relative_position_index',
            INDEX_REASON,
        ),
        Made(Template('criterion.empty_weight'), 'class_weights', LOSS_REASON),
    ),
    # Models in memory have the longer names, released files the shorter ones; the code accepts both.
    aliases=(('sem_seg_head.pixel_decoder.', 'sem_seg_head.'),),
    kinds=KINDS,
)
HUB_BACKBONE = 'model.pixel_level_module.encoder.'
TRANSFORMERS = Names(
    title="transformers' MaskFormer",
    rows=table(HUB_DECODER) + table(HUB_RESNET, backbone=HUB_BACKBONE) + table(HUB_SWIN, '', HUB_BACKBONE, merges=True),
    made=(
        Made(
            Template(f'{HUB_BACKBONE}model.encoder.layers.{{s}}.blocks.{{b}}.attention.self.relative_position_index'),
            'relative_position_index',
            INDEX_REASON,
        ),
        Made(Template(f'{HUB_BACKBONE}model.layernorm.weight'), 'swin_ones', NORM_REASON),
        Made(Template(f'{HUB_BACKBONE}model.layernorm.bias'), 'swin_zeros', NORM_REASON),
        Made(Template('criterion.empty_weight'), 'class_weights', LOSS_REASON),
    ),
)
NAMES = {
    'mmmaskformer': _ours('decode_head'),
    'mmmaskformer-panoptic': _ours('panoptic_head'),
    'mmseg': _host("MMSegmentation's MaskFormer", 'decode_head'),
    'mmdet': _host("MMDetection's MaskFormer", 'panoptic_head'),
    'transformers': TRANSFORMERS,
    'official': OFFICIAL,
}
"""Tables by package; this package has one for the model of each host."""
