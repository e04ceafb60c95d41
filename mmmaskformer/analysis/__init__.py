"""What the queries of a trained model do, counted: torch, numpy and the core; `mmmaskformer.apis.analysis` feeds it."""
