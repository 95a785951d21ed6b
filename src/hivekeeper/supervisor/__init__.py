"""The keeper.

Holds the programs of a host, starts, watches and restarts them as their policy wants.
"""
