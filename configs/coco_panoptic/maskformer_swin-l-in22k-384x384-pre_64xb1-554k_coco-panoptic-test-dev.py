# For the COCO test server: the test writes the results for test-dev, a JSON file and a folder of PNG files to submit.
# Paper: PQ 53.3. MMDetection's tools/misc/gen_coco_panoptic_test_info.py writes the list of images.
_base_ = './maskformer_swin-l-in22k-384x384-pre_64xb1-554k_coco-panoptic.py'
test_dataloader = dict(
    dataset=dict(
        ann_file='annotations/panoptic_image_info_test-dev2017.json',
        data_prefix=dict(_delete_=True, img='test2017'),
    )
)
test_evaluator = dict(format_only=True, outfile_prefix='work_dirs/coco_test-dev/results')
