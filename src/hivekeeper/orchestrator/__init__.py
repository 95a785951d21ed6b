"""The orchestrator: API, store and controllers.

Decides which host runs what; runs nothing itself.
"""
