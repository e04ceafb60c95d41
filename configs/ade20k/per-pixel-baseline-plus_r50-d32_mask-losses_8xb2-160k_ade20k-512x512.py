# PerPixelBaseline+ trained with the mask losses of MaskFormer, the control experiment of the paper's section 4.3: "no
# improvement" over 41.9.
_base_ = './per-pixel-baseline-plus_r50-d32_8xb2-160k_ade20k-512x512.py'
model = dict(
    decode_head=dict(
        criterion=dict(_delete_=True, type='mmmaskformer.PixelMaskLosses', loss_weights=dict(mask=20.0, dice=1.0))
    )
)
