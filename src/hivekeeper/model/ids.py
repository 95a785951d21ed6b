"""Identifiers: what each names, and what it may look like. Never a bare `str` in a signature."""

import re
from typing import Final, NewType

WorkloadName = NewType("WorkloadName", str)
HostId = NewType("HostId", str)
AllocationId = NewType("AllocationId", str)
"""`<workload>@<host>`: one workload on one host."""
ProgramId = NewType("ProgramId", str)
"""What the keeper calls a program it holds: `workload.<name>`, or `hive.<part>` for our own."""
Revision = NewType("Revision", int)
"""Which manifest of a workload: 1, 2, 3, …"""
Generation = NewType("Generation", int)
"""Grows with every change of an allocation's desired state; hosts refuse older ones."""
Sequence = NewType("Sequence", int)
"""Which commit of a store last wrote a record. Grows by at least one with every commit."""

END: Final = r"$(?!\n)"
"""The end of a text. `$` alone is also before a newline at the end, in Python."""
NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?" + END
"""Workloads and hosts: what is safe in a path, a subject, a host name and a cgroup."""
PROGRAM_PATTERN: Final = r"^(workload|hive)\.[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?" + END


def is_name(text: str) -> bool:
    """Return whether `text` may name a workload or a host."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def allocation_id(workload: WorkloadName, host: HostId) -> AllocationId:
    """Return the id of `workload` on `host`."""
    return AllocationId(f"{workload}@{host}")


def workload_program(workload: WorkloadName) -> ProgramId:
    """Return what the keeper calls the program of `workload`."""
    return ProgramId(f"workload.{workload}")
