"""The steps that ship with belljar, one a file; the host finds ``graphics-egl`` in ``graphics_egl.py``."""
