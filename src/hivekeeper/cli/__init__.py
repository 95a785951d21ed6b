"""The command line.

Reads arguments and environment, and is the only place that chooses adapters.
"""
