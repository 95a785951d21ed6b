"""One file each: the outside world behind a port of `hivekeeper.ports`. Chosen in `cli` only."""
