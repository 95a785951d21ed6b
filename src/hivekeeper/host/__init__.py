"""The host agent: makes one host match what it was asked; works with everything else gone."""
