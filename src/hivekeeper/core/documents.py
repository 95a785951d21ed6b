"""How a host's document takes in what the orchestrator says is new.

Pure; refuses what is older or a stranger's.
"""

from collections.abc import Collection

from msgspec.structs import replace

from hivekeeper.model.allocation import Document
from hivekeeper.model.errors import PermanentError, TransientError
from hivekeeper.model.ids import WorkloadName


def merge(
    stored: Document | None,
    new: Document,
    *,
    complete: bool,
    withdrawn: Collection[WorkloadName],
) -> Document:
    """Return `stored` after it took in `new`.

    Args:
        stored: What this host has on its disk; None: nothing yet.
        new: What came: all of it if `complete`, else only the orders that changed.
        complete: See `new`.
        withdrawn: Without `complete`: orders that are no longer there.

    Raises:
        PermanentError: It is of another cluster than the one this host joined.
        TransientError: It is older than what is stored, or does not fit it: ask again, for all.
    """
    if stored is None:
        if not complete:
            raise TransientError("cannot begin with part of a document")
        return new
    if new.cluster != stored.cluster:
        raise PermanentError(
            f"cannot take orders from cluster {new.cluster}: this host joined {stored.cluster}",
            hint="`hive host join` it anew, in a folder of its own",
        )
    if (new.epoch, new.version) < (stored.epoch, stored.version):
        raise TransientError(
            f"cannot take document {new.epoch}.{new.version}: "
            f"{stored.epoch}.{stored.version} is newer"
        )
    if complete:
        return new
    if new.epoch != stored.epoch:
        raise TransientError("cannot add to a document of another epoch")
    kept = {name: order for name, order in stored.orders.items() if name not in withdrawn}
    return replace(new, orders=kept | new.orders)
