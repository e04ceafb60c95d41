"""Preparation of published data sets: one file for each family, and one engine that runs them all.

A family's file says what to look for (`Recipe.find`) and what to make of one file (`Recipe.convert`). The engine counts
before it writes, works in parallel, continues after an interruption, and gives files their final names only when they
are complete.
"""
