"""MaskFormer for MMSegmentation and MMDetection.

Importing this package does nothing but set the version. Everything else is imported on demand through
`mmmaskformer.registry`, which the hosts find by themselves from the prefix in ``type='mmmaskformer.…'``.
"""

__version__ = '0.1.0'
