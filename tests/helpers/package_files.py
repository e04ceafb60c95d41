"""The files that share the row of their folder in the table of allowed imports, `tests/test_imports.py`.

Add a new file here if the allowed imports of its folder are right for it; otherwise give it its own row in that table.
"""

# folder → its files, without `.py`; files with their own row in the table are not listed
FILES_OF = {
    'core/training/': """
        __init__ assignment boxes chunks class_weights criterion equations matcher one_pass pairwise parts
        per_pixel_criterion pixel_cross_entropy points targets
    """,
    'core/modeling/': """
        __init__ channels_last detr_mask_head feature_pyramid fuse layers mask_classifier per_pixel pixel_decoder
        transformer transformer_decoder
    """,
    'core/inference/': """
        __init__ checks detr instance labels/__init__ labels/search labels/tiles labels/views panoptic pooling queries
        query_masks resize semantic
    """,
    'core/quality/': '__init__ panoptic_map panoptic_quality semantic_quality',
    'core/': """
        checks contracts fast_paths folding masks matches numerics part_outputs segments shapes structures
        torch_versions upsampling
    """,
    'analysis/': '__init__ nested query_classes stored sweep_table tables threshold_sweep',
    'formats/': """
        __init__ coco_json coco_values folder_lock images json_files label_maps messages panoptic_png photos
        plain_arrays png_chunks result_names run_lengths unreadable whole_files
    """,
    'checkpoints/': """
        __init__ backbone_maps backbones classes config_text convert key_maps layouts loading made names neutral
        preprocessors settings sizes source_facts templates transformers_files vit
    """,
    'heads/': """
        __init__ base build checkpoint_layouts conversion data_samples feature_input features finite fusion_head
        loaded_weights mask_classification_head maskformer_head panoptic_head per_pixel_head result_forms results
        settings source_settings
    """,
    'datasets/transforms/': '__init__ color common framing geometry loading panoptic_loading',
    'datasets/converters/': """
        __init__ ade20k ade20k_full cityscapes coco coco_stuff engine labels mapillary panoptic_files panoptic_parts
        plain_pickle processes progress recipe recipes records report searching staging unpacking
    """,
    'datasets/': """
        __init__ areas category_labels files folders inspection metainfo/__init__ pairing pipelines reading
        scenes/__init__ scenes/files scenes/painting scenes/scenes scenes/things
    """,
    'evaluation/': '__init__ also coco_panoptic_files common panoptic_metric semantic_metric',
    'visualization/': '__init__ analysis_plots curve draw hook names query_masks samples segments sheet',
    'hosts/': """
        __init__ annotation_checks bands best_checkpoint best_key checkpoint_files checkpointing config_check
        early_stopping file_backend metrics newest_checkpoint optim output_check picture_files resumed_data resuming
        unused_variables windows
    """,
    'apis/cli/': '_pipes analyze audit convert curve data doctor draw export models scenes sweep test train',
    'apis/analysis/': '__init__ class_masks evaluators inference one_pass outputs queries thresholds',
    'apis/': """
        __init__ audit backbones class_orders config_files converting data_sets exporting model_configs scripts
        settings_of_config sources sweep_plan sweep_records trained verifying zoo_files
    """,
    'doctor/': '__init__ __main__ rules stack versions',
    'export/': '__init__ attention files modules panoptic quantise verify windows',
}
