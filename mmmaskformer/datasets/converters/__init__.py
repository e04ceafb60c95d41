"""Preparation of published datasets: one file for each family, and one engine that runs them all.

The file of a family defines which files it needs (`Recipe.find`) and how one of them is converted (`Recipe.convert`).
The engine checks the number of files before it writes, works in parallel, continues after an interruption, and gives
files their final names only when all are complete.
"""
