"""The API's description: paths from the handlers, schemas from the very types that decode.

litestar collects the paths. Its own schemas know less than msgspec's (bounds within lists, fields
that are refused), so that every schema is made by msgspec; a test sees that each name is there.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    Operation,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from hivekeeper.model.record import AuditRecord
from hivekeeper.orchestrator import problems
from hivekeeper.wire import api

MANIFEST_TYPES: Final = ("application/json", "application/yaml", "application/x-yaml", "text/yaml")
JSON_TYPES: Final = ("application/json",)

_TYPES: Final = (
    api.WorkloadAnswer,
    api.WorkloadDetail,
    api.Assignment,
    api.LogText,
    api.HostRow,
    api.Invited,
    api.EventRow,
    api.BlobStored,
    api.Health,
    api.Problem,
    AuditRecord,
)
_REFERENCE: Final = "#/components/schemas/{name}"

PROBLEM: Final = {
    status: ResponseSpec(
        api.Problem,
        media_type=problems.MEDIA_TYPE,
        generate_examples=False,
        description=text,
    )
    for status, text in {
        400: "It cannot be read.",
        401: "The token is missing or wrong.",
        404: "It is not there.",
        503: "Not now; ask again later.",
    }.items()
}
"""What any request may be answered with."""
WRITE_PROBLEM: Final = PROBLEM | {
    status: ResponseSpec(
        api.Problem,
        media_type=problems.MEDIA_TYPE,
        generate_examples=False,
        description=text,
    )
    for status, text in {
        409: "It contradicts what is there.",
        412: "What is there is not what If-Match says.",
        413: "It is too large.",
        415: "It is of a type that is not read here.",
        422: "It can be read, but not be done; `field` says what is wrong.",
    }.items()
}
"""What a write may be answered with."""


@dataclass
class ManifestOperation(Operation):
    """An operation whose body is a manifest."""

    def __post_init__(self) -> None:
        self.request_body = _body(MANIFEST_TYPES, Reference(_REFERENCE.format(name="Manifest")))


@dataclass
class AssignmentOperation(Operation):
    """An operation whose body says where to."""

    def __post_init__(self) -> None:
        self.request_body = _body(JSON_TYPES, Reference(_REFERENCE.format(name="Assignment")))


@dataclass
class BlobOperation(Operation):
    """An operation whose body is bytes."""

    def __post_init__(self) -> None:
        schema = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
        self.request_body = _body(("application/octet-stream",), schema)


def _body(types: tuple[str, ...], schema: Schema | Reference) -> RequestBody:
    content = {each: OpenAPIMediaType(schema=schema) for each in types}
    return RequestBody(required=True, content=content)


class _Description(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_REFERENCE)
        components = openapi_schema["components"] | {"schemas": schemas}
        return super().render(request, openapi_schema | {"components": components})


def config() -> OpenAPIConfig:
    """Return how litestar is to describe the API, at `/v1/openapi.json`."""
    return OpenAPIConfig(
        title="Hivekeeper",
        version=version("hivekeeper"),
        description="Declare what must always be on; Hivekeeper keeps it on.",
        path="/v1",
        render_plugins=[_Description()],
        use_handler_docstrings=True,
        security=[{"token": []}],
        components=Components(
            security_schemes={
                "token": SecurityScheme(
                    type="http", scheme="bearer", description="The content of DIR/token."
                )
            }
        ),
    )
