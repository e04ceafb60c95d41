"""Checkpoints of other packages: recognised by content, read without running code, converted by tables of names.

- `layouts`: what a file holds, told from the names of its weights
- `readers`: pickles of detectron2, safetensors, folders of transformers
- `templates`, `key_maps`: names of every package in neutral names, and back
- `sizes`, `shapes`: the architecture that neutral weights make up, and the shape of each weight of it
- `neutral`: weights of a package by neutral names, complete
- `classes`: orders of classes
- `convert`: weights of one package to those of another, whole or not at all
- `settings`, `source_facts`: what weights do not tell, and what a checkpoint tells of it
- `writers`, `transformers_files`, `preprocessors`: files and folders that are whole or absent
- `backbone_maps`, `backbones`, `vit`: weights of backbones alone
- `zoo`, `downloads`, `transfers`: public weights by name, and how files are fetched
- `loading`: checkpoints in the form that mmengine expects
"""
