"""Preparation of published data sets: one file for each family, and one engine that runs them all.

A family's file says what to look for (`Recipe.find`) and what to make of one file (`Recipe.convert`). The engine counts
before it writes, works in parallel, goes on after an interruption and names nothing as finished that is not.
"""
