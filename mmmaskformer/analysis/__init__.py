"""Statistics of queries, thresholds and inference modes; `mmmaskformer.apis.analysis` runs the models for them."""
