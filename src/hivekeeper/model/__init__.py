"""Vocabulary: ids, manifests, statuses, policies, limits.

Frozen data and invariants; no I/O, no decisions.
"""
