"""The command line: reads arguments and environment, and is the only place that chooses adapters."""
