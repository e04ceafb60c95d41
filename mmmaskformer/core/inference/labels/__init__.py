"""Semantic label maps in bounded memory, without the class scores (K, H, W)."""
