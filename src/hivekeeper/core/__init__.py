"""Decisions, as pure functions of state, event and time.

No I/O, no clock, no randomness of its own.
"""
