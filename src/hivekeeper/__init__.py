"""Hivekeeper: declare what must always be on; Hivekeeper keeps it on."""
