"""Checkpoints of other packages: recognised by content, read without running code, converted with tables of names.

- `layouts`: what a file holds, found from the names of its weights
- `readers`: pickles of detectron2, safetensors, folders of transformers
- `templates`, `key_maps`: tables between the names of each package and neutral names
- `sizes`, `shapes`: the architecture that follows from the weights, and the shape of each of its weights
- `neutral`: weights of a package under neutral names, checked to be complete
- `classes`: orders of classes
- `convert`: weights of one package to those of another, all of them or an error
- `settings`, `source_facts`: settings that do not show in the weights, and those that a checkpoint stores
- `writers`, `transformers_files`, `preprocessors`: files and folders, written atomically
- `backbone_maps`, `backbones`, `vit`: weights of backbones alone
- `zoo`, `downloads`, `transfers`: public weights by name, and the download of their files
- `loading`: checkpoints in the form that mmengine expects
"""
