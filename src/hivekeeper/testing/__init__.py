"""Verified fakes: each passes the same contract suite as the adapter it stands for."""
