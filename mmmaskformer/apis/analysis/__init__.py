"""Analyses of trained models: `mmmaskformer.analysis` counts, `mmmaskformer.visualization` draws, this feeds both."""
