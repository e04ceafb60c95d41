# PerPixelBaseline+ trained with the mask losses of MaskFormer. The paper has this experiment for ADE20K only; see the
# config of the same name for ADE20K.
_base_ = './per-pixel-baseline-plus_r101-d32_8xb2-90k_cityscapes-512x1024.py'
model = dict(
    decode_head=dict(
        criterion=dict(_delete_=True, type='mmmaskformer.PixelMaskLosses', loss_weights=dict(mask=20.0, dice=1.0))
    )
)
