# PerPixelBaseline+ trained with the mask losses of MaskFormer. The paper has this experiment for ADE20K only; see the
# config of the same name for ADE20K.
_base_ = './per-pixel-baseline-plus_r50-d32_8xb4-60k_coco-stuff10k-640x640.py'
model = dict(
    decode_head=dict(
        criterion=dict(_delete_=True, type='mmmaskformer.PixelMaskLosses', loss_weights=dict(mask=20.0, dice=1.0))
    )
)
