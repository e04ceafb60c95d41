"""The network: layers, pixel decoders, transformer decoders and the classifier that joins them."""
