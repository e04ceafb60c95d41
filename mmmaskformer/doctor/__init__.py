"""Reports the installed packages, incompatibilities and repairs: ``python -m mmmaskformer.doctor``.

Imports only the standard library, so that it runs even if everything else is missing.
"""
