"""What texts may look like: names, hashes, addresses, sizes.

One definition for decoders, their errors and the JSON Schema: a description says what is expected.
Patterns are read alike by Python and by JSON Schema. Looks at form only, never at the world.
"""

import re
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta

from hivekeeper.model import ids, limits

NAME: Final = Meta(
    pattern=ids.NAME_PATTERN,
    max_length=limits.NAME_LENGTH,
    description="a name of lower-case letters, digits and hyphens, at most 40 of them, "
    "with no hyphen first or last",
)
Name = Annotated[str, NAME]
Identifier = Annotated[
    str,
    Meta(
        pattern=r"^[^/\x00-\x1f\x7f]+" + ids.END,
        max_length=limits.GATEWAY_IDENTIFIER_LENGTH,
        description="a name of at most 100 characters, none of them a slash",
    ),
]
VariableName = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z_][A-Za-z0-9_]*" + ids.END,
        description="the name of a variable: letters, digits and _",
    ),
]
Word = Annotated[str, Meta(pattern=r"^[^\x00]*" + ids.END, description="text (with no NUL in it)")]
Text = Annotated[str, Meta(max_length=1024)]
Path = Annotated[
    str,
    Meta(
        pattern=r"^/[^\x00-\x1f\x7f]*" + ids.END,
        max_length=4096,
        description="a path from `/` on",
    ),
]
SHA256_PATTERN: Final = "^[0-9a-f]{64}" + ids.END
Sha256 = Annotated[
    str,
    Meta(
        pattern=SHA256_PATTERN,
        description="a SHA-256: 64 hexadecimal digits in lower case",
    ),
]
Base64 = Annotated[
    str,
    Meta(
        pattern="^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?" + ids.END,
        max_length=limits.MANIFEST_BYTES,
        description="base64 with its padding",
    ),
]
Url = Annotated[
    str,
    Meta(
        pattern=r"^(https?|wss?)://[^\s/\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*" + ids.END,
        max_length=2048,
        description="an address that begins with https://, http://, wss:// or ws://",
    ),
]
Size = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,3})? ?([KMGT]iB|[kMGT]B)" + ids.END,
        description="a size: a number and KiB, MiB, GiB or TiB (or kB, MB, GB, TB), as in 512MiB",
    ),
]
Glob = Annotated[
    str,
    Meta(
        pattern=r"^[^/\s]+/[^/\s]+" + ids.END,
        max_length=256,
        description="zome/function, each a name or a pattern, as in notes/*",
    ),
]
HappSource = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]+" + ids.END,
        max_length=4096,
        description="a path (from the manifest's folder on), an https URL with sha256, "
        "or blob:SHA256",
    ),
]

_UNITS: Final = {
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": limits.KIB,
    "MiB": limits.MIB,
    "GiB": limits.GIB,
    "TiB": 1024 * limits.GIB,
}


def parse_size(text: str) -> int:
    """Return how many bytes a `Size` means."""
    found = re.fullmatch(r"([0-9.]+) ?([a-zA-Z]+)", text)
    assert found, "decoders let only sizes through"
    return int(Decimal(found[1]) * _UNITS[found[2]])
