"""Every bound, with its reason. Nothing that grows by someone else's doing is without one."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# Manifests: a person writes them, and a review must be able to read them.
MANIFEST_BYTES: Final = 256 * KIB
MANIFEST_DEPTH: Final = 32
MANIFEST_NODES: Final = 10_000
"""YAML nodes after aliases are counted as often as they are used: a billion laughs ends here."""
NAME_LENGTH: Final = 40
"""Fits an interface name with a prefix, a DNS label and a path component with room to spare."""

# What is kept on.
WORKLOADS: Final = 10_000
HOSTS: Final = 5_000
ALLOCATIONS_PER_HOST: Final = 1_000
"""A host document of this many manifests of ordinary size still fits a few messages."""
COMMAND_WORDS: Final = 256
ENVIRONMENT_NAMES: Final = 256

FACTS_DEPTH: Final = 64
"""What a host tells of a hApp nests a dozen deep; Python cannot write what nests hundreds."""

# Messages. nats-server's own default maximum is 1 MiB; chunks stay well below it.
MESSAGE_BYTES: Final = 1 * MIB
CHUNK_BYTES: Final = 512 * KIB
REQUEST_TIMEOUT_S: Final = 5.0
"""A bus request that takes longer is as good as lost; the caller asks again."""

# The hub. Hosts, their edges, and ours with some to spare; and what one connection may pile up.
HUB_CONNECTIONS: Final = 2 * HOSTS + 100
HUB_WAITING_MESSAGES: Final = 4_096
"""Received and not looked at yet, on one subscription; what comes on top is lost."""
HUB_WAITING_BYTES: Final = 64 * MIB
HUB_UNSENT_BYTES: Final = 8 * MIB
"""To be sent while the server does not read; what comes on top is lost."""
HUB_ANSWERS_AT_ONCE: Final = 64
"""On one subscription; further requests wait their turn."""

# The HTTP API.
API_BODY_BYTES: Final = 1 * MIB
BLOB_BYTES: Final = 256 * MIB
"""Holochain's own tools refuse bundles far below this; larger is a mistake or an attack."""
IDEMPOTENCY_KEY_LENGTH: Final = 128
IDEMPOTENCY_KEPT_S: Final = 24 * 3600.0
IDEMPOTENCY_KEYS: Final = 10_000
"""The newest ones that are kept, within that time."""
EVENTS_WAIT_S: Final = 60.0
"""How long a reader may wait for the next event; then it asks again."""
PAGE_RECORDS: Final = 1_000

# The store.
RECORD_BYTES: Final = 1 * MIB
KEY_LENGTH: Final = 128
"""`<host>/<workload>` and a SHA-256 in hex fit with room to spare."""
COMMIT_CHANGES: Final = 2_000
EVENTS_KEPT: Final = 10_000
REVISIONS_KEPT: Final = 10
"""Manifests of a workload: to look back at. The audit chain has every one, for good."""

# The keeper.
PROGRAMS: Final = 2_000
KEEPER_LINE_BYTES: Final = 1 * MIB
KEEPER_CLIENTS: Final = 64
LOG_BYTES: Final = 16 * MIB
"""Kept of one run's log. The head beyond it is given back to the disk."""
LOG_RUNS: Final = 3
"""Runs whose logs are kept: the present one, and enough to see why the last ones ended."""

# Hosts and time.
HOST_POLL_S: Final = 5.0
"""How often a host asks for its document when nothing wakes it."""
HOST_REQUESTS_PER_S: Final = 200
"""Of all hosts together: a larger fleet asks less often."""
HOST_LOST_AFTER_S: Final = 20.0
"""Four polls missed: silence of one is a hiccup."""
RECONCILE_S: Final = 5.0
INVITATION_S: Final = 24 * 3600.0
"""How long a host may take to use its invitation: a day's work, not a secret for ever."""
CLOCK_SKEW_S: Final = 2.0
"""How far hosts that run NTP are taken to differ at most."""

# The gateway: the figures of Holochain's own gateway, so that its clients find what they know.
GATEWAY_PAYLOAD_BYTES: Final = 10 * KIB
GATEWAY_CALL_TIMEOUT_S: Final = 10.0
GATEWAY_IDENTIFIER_LENGTH: Final = 100
# And our own.
GATEWAY_CALLS_PER_APP: Final = 1_024
"""Under way and waiting: what a conductor answers in three to four seconds. More is refused."""
GATEWAY_LOOK_S: Final = 0.2
"""How often the host agent's files are looked at; a call that misses something looks at once."""
GATEWAY_ROUTES_S: Final = 5.0
"""How often routes are asked for when nothing wakes it."""

# Holochain: what its conductor takes and gives (line 0.6), and how much of it we keep.
CONDUCTOR_MESSAGE_BYTES: Final = 64 * MIB
CONDUCTOR_FRAME_BYTES: Final = 16 * MIB - 1 * KIB
"""A message of ours is one frame; the rest is for its envelope."""
CONDUCTOR_REQUESTS: Final = 128
"""Under way on one connection; a conductor reads no further ones."""
SIGNALS: Final = 1_000
SIGNAL_BYTES: Final = 16 * MIB
"""Kept for a listener that is slow."""
JSON_DEPTH: Final = 127
"""Of a zome call's argument: what Holochain's own gateway takes."""
BUNDLE_UNPACKED_BYTES: Final = 128 * MIB
"""Of a whole bundle; WebAssembly packs to about a third."""
CONDUCTOR_PROGRAM_BYTES: Final = 512 * MIB
"""Official programs are below 100 MiB."""
