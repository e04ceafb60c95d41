# The main config: MaskFormer with Swin-T on ADE20K. mim train mmsegmentation configs/maskformer_swin_ade20k.py
_base_ = './ade20k/maskformer_swin-t_8xb2-160k_ade20k-512x512.py'
