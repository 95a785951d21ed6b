"""Commit to the store in the file named until killed; say each sequence once it is answered.

Every commit puts two records that belong together and a link of the audit chain. Several tasks
commit at the same time, so that the kill falls into shared transactions too.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from hivekeeper.adapters import sqlite
from hivekeeper.model.record import ABSENT, AuditEntry, Put, RecordKind

ENTRY = AuditEntry(
    at=datetime(2026, 1, 1, tzinfo=UTC),
    actor="writer",
    action="apply",
    target="t",
    request_id="r",
    body=b"{}",
)


async def write(store: sqlite.SqliteStore, name: str) -> None:
    for n in range(1_000_000):
        pair = [
            Put(kind=kind, key=f"{name}-{n}", expected=ABSENT, value=os.urandom(900))
            for kind in (RecordKind.WORKLOAD, RecordKind.ALLOCATION)
        ]
        sequence = await store.commit(pair, audit=ENTRY)
        os.write(1, f"{sequence} {name}-{n}\n".encode())


async def main() -> None:
    run = sys.argv[2]
    async with sqlite.open_store(Path(sys.argv[1])) as store, asyncio.TaskGroup() as group:
        for task in "abc":
            group.create_task(write(store, f"{run}{task}"), name=task)


asyncio.run(main())
