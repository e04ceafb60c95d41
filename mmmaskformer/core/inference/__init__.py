"""Predictions to results: pure functions of one image."""
