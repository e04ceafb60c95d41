# For the ADE20K test server: trained on training and validation images; the test writes submission files for the images
# of release_test. Run it with --tta, as the paper did: pixel accuracy 79.36, mIoU 49.67, score 64.51.
_base_ = './maskformer_swin-l-in22k-384x384-pre_8xb2-160k_ade20k-640x640.py'
# Both splits: every image below images, every label map below annotations.
train_dataloader = dict(dataset=dict(data_prefix=dict(img_path='images', seg_map_path='annotations')))
test_dataloader = dict(
    dataset=dict(
        data_root='data/ade/release_test',
        data_prefix=dict(_delete_=True, img_path='testing'),
    )
)
# One PNG for each image, labels 1 to 150, as the server expects them.
test_evaluator = dict(format_only=True, output_dir='work_dirs/ade20k_test_server')
# Validation images are also training images: their mIoU is not meaningful.
default_hooks = dict(checkpoint=dict(save_best=None))
