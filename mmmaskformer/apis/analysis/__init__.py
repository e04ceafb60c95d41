"""Analyses of trained models: runs the models and passes their outputs to `mmmaskformer.analysis` and the plots."""
