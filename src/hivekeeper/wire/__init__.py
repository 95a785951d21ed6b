"""Subjects, messages and codecs: bytes to model and back, with versions and size limits.

No I/O.
"""
