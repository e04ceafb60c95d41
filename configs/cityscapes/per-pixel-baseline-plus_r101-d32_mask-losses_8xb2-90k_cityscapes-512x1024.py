# PerPixelBaseline+ trained with the mask losses of MaskFormer; see the config of that name for ADE20K, the only data
# set for which the paper speaks of it.
_base_ = './per-pixel-baseline-plus_r101-d32_8xb2-90k_cityscapes-512x1024.py'
model = dict(
    decode_head=dict(
        criterion=dict(_delete_=True, type='mmmaskformer.PixelMaskLosses', loss_weights=dict(mask=20.0, dice=1.0))
    )
)
