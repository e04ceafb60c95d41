"""MaskFormer for MMSegmentation and MMDetection.

Importing this package only sets the version. Everything else is imported on demand through `mmmaskformer.registry`,
which the hosts import because of the prefix in ``type='mmmaskformer.…'``.
"""

__version__ = '0.1.0'
