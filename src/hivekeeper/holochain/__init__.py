"""Holochain: conductors, and the hApps in them.

Bundles and their hashes, configuration by release line, the wire protocol with its admin and app
clients, signed zome calls, and getting a hApp from what is to what is wanted. Starts no conductor.
"""
