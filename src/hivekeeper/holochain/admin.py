"""The admin interface, line 0.6: what may be asked of a conductor by whoever owns it.

A table of requests with the shapes of what they carry, named as Holochain names them:
`await connection.ask(admin.ENABLE_APP, admin.AppId("notes"))`. Only the host agent talks to it.
"""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from hivekeeper.holochain.apps import AppInfo, CellId, DnaDef
from hivekeeper.holochain.hashes import ActionHash, AgentPubKey, DnaHash
from hivekeeper.holochain.wire import NOTHING, Endpoint, Tagged

Secret = Annotated[bytes, Meta(min_length=64, max_length=64)]


class AppId(Struct, frozen=True):
    """Which hApp."""

    installed_app_id: str


class RoleModifiers(Struct, frozen=True, omit_defaults=True):
    """What to set of a role's DNA; what is left out stays as the bundle says."""

    network_seed: str | None = None
    properties: Any = None


class RoleProvision(Struct, frozen=True):
    """How a role's cell is made."""

    membrane_proof: bytes | None = None
    modifiers: RoleModifiers | None = None


class InstallAppPayload(Struct, frozen=True, kw_only=True):
    """What to install; `source` is `path` (where the conductor sees it) or `bytes`."""

    source: Tagged
    installed_app_id: str | None = None
    agent_key: AgentPubKey | None = None
    network_seed: str | None = None
    roles_settings: dict[str, Tagged] | None = None
    ignore_genesis_failure: bool = False


class UninstallApp(Struct, frozen=True):
    """Which hApp; `force` also where other hApps use its cells."""

    installed_app_id: str
    force: bool = False


class ListApps(Struct, frozen=True):
    """Which hApps: `enabled`, `disabled`, or all."""

    status_filter: str | None = None


class AttachAppInterface(Struct, frozen=True, kw_only=True):
    """Port 0 lets the conductor choose. The conductor keeps an interface over its restarts."""

    port: int | None = None
    danger_bind_addr: str | None = None
    allowed_origins: str
    installed_app_id: str | None = None


class Port(Struct, frozen=True):
    """Where it listens."""

    port: int


class AppInterfaceInfo(Struct, frozen=True):
    """An app interface that is there; for one hApp, or for any."""

    port: int
    allowed_origins: str
    installed_app_id: str | None = None


class IssueAppAuthenticationToken(Struct, frozen=True, kw_only=True):
    """How long and how often a token may be used; by default for ever, and any number of times."""

    installed_app_id: str
    expiry_seconds: int = 0
    single_use: bool = False


class AppAuthenticationTokenIssued(Struct, frozen=True):
    """A token: whoever has it may use the hApp's interface. Forgotten when the conductor stops."""

    token: list[int]
    """Bytes; Holochain writes them as numbers."""
    expires_at: int | None = None

    def __repr__(self) -> str:
        return "AppAuthenticationTokenIssued(...)"


class Assigned(Struct, frozen=True):
    """Whoever signs with one of `assignees` and knows `secret`."""

    secret: Secret
    assignees: list[AgentPubKey]

    def __repr__(self) -> str:
        return "Assigned(...)"


class ZomeCallCapGrant(Struct, frozen=True):
    """Who may call what. `access` is `assigned` here, `functions` is `all` or `listed`."""

    tag: str
    access: Tagged
    functions: Tagged


class GrantZomeCallCapability(Struct, frozen=True):
    """Write a grant on a cell's source chain. The first one also runs the cell's `init`."""

    cell_id: CellId
    cap_grant: ZomeCallCapGrant


class RevokeZomeCallCapability(Struct, frozen=True):
    """Which grant, on which chain."""

    action_hash: ActionHash
    cell_id: CellId


class ListCapabilityGrants(Struct, frozen=True):
    """Ask for all: 0.6.3 answers with none at all when revoked ones are to be left out."""

    installed_app_id: str
    include_revoked: bool = True


class GrantAccess(Struct, frozen=True):
    """Who may use a grant; the secret is not told again."""

    access_type: str
    assignees: list[AgentPubKey] | None = None


class GrantInfo(Struct, frozen=True):
    """A grant without its secret."""

    tag: str
    access: GrantAccess
    functions: Tagged


class CapGrantInfo(Struct, frozen=True):
    """A grant, and whether it still holds."""

    cap_grant: GrantInfo
    action_hash: ActionHash
    created_at: int
    revoked_at: int | None = None


class UpdateCoordinators(Struct, frozen=True):
    """New coordinator zomes for a cell; those of the same name are replaced, others stay."""

    cell_id: CellId
    source: Tagged


class DnaUse(Struct, frozen=True):
    """How much a DNA's data takes, in bytes."""

    authored_data_size_on_disk: int
    dht_data_size_on_disk: int
    cache_data_size_on_disk: int
    dna_hash: DnaHash
    used_by: list[str]


class DnaBlob(Struct, frozen=True, tag_field="type", tag="dna"):
    """See `DnaUse`."""

    value: DnaUse


class StorageInfo(Struct, frozen=True):
    """What takes room on disk."""

    blobs: list[DnaBlob]


class DumpNetworkMetrics(Struct, frozen=True):
    """Of one DNA, or of all."""

    dna_hash: DnaHash | None = None
    include_dht_summary: bool = False


class NetworkStats(Struct, frozen=True):
    """How the transport does."""

    transport_stats: dict[str, Any]
    blocked_message_counts: dict[str, Any] = {}


class AgentInfo(Struct, frozen=True):
    """Of which DNAs; none: of all."""

    dna_hashes: list[DnaHash] | None = None


GENERATE_AGENT_PUB_KEY: Final = Endpoint(
    "generate_agent_pub_key", NOTHING, "agent_pub_key_generated", AgentPubKey
)
INSTALL_APP: Final = Endpoint("install_app", InstallAppPayload, "app_installed", AppInfo)
UNINSTALL_APP: Final = Endpoint("uninstall_app", UninstallApp, "app_uninstalled", NOTHING)
ENABLE_APP: Final = Endpoint("enable_app", AppId, "app_enabled", AppInfo)
DISABLE_APP: Final = Endpoint("disable_app", AppId, "app_disabled", NOTHING)
LIST_APPS: Final = Endpoint("list_apps", ListApps, "apps_listed", list[AppInfo])
LIST_DNAS: Final = Endpoint("list_dnas", NOTHING, "dnas_listed", list[DnaHash])
LIST_CELL_IDS: Final = Endpoint("list_cell_ids", NOTHING, "cell_ids_listed", list[CellId])
GET_DNA_DEFINITION: Final = Endpoint(
    "get_dna_definition", CellId, "dna_definition_returned", DnaDef
)
UPDATE_COORDINATORS: Final = Endpoint(
    "update_coordinators", UpdateCoordinators, "coordinators_updated", NOTHING
)
ATTACH_APP_INTERFACE: Final = Endpoint(
    "attach_app_interface", AttachAppInterface, "app_interface_attached", Port
)
LIST_APP_INTERFACES: Final = Endpoint(
    "list_app_interfaces", NOTHING, "app_interfaces_listed", list[AppInterfaceInfo]
)
ISSUE_APP_AUTHENTICATION_TOKEN: Final = Endpoint(
    "issue_app_authentication_token",
    IssueAppAuthenticationToken,
    "app_authentication_token_issued",
    AppAuthenticationTokenIssued,
)
GRANT_ZOME_CALL_CAPABILITY: Final = Endpoint(
    "grant_zome_call_capability",
    GrantZomeCallCapability,
    "zome_call_capability_granted",
    ActionHash,
)
REVOKE_ZOME_CALL_CAPABILITY: Final = Endpoint(
    "revoke_zome_call_capability",
    RevokeZomeCallCapability,
    "zome_call_capability_revoked",
    NOTHING,
)
LIST_CAPABILITY_GRANTS: Final = Endpoint(
    "list_capability_grants",
    ListCapabilityGrants,
    "capability_grants_info",
    list[tuple[CellId, list[CapGrantInfo]]],
)
STORAGE_INFO: Final = Endpoint("storage_info", NOTHING, "storage_info", StorageInfo)
DUMP_NETWORK_METRICS: Final = Endpoint(
    "dump_network_metrics",
    DumpNetworkMetrics,
    "network_metrics_dumped",
    dict[DnaHash, dict[str, Any]],
)
DUMP_NETWORK_STATS: Final = Endpoint(
    "dump_network_stats", NOTHING, "network_stats_dumped", NetworkStats
)
AGENT_INFO: Final = Endpoint("agent_info", AgentInfo, "agent_info", list[str])
