"""Targets, matching and losses."""
