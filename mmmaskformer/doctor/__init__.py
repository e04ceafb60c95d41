"""Tells what is installed, what does not fit together and how to repair it: ``python -m mmmaskformer.doctor``.

Needs nothing but Python, so that it also runs where everything else is missing.
"""
