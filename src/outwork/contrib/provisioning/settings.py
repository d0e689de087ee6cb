"""The `[provisioning]` table: `[provisioning.clients.NAME]` for each application that is told of users and groups."""

from __future__ import annotations

from urllib.parse import urlsplit

from msgspec import field

from outwork.configuration.sections import Seconds, Secret, Section


class ScimClient(Section, frozen=True, kw_only=True):
    """Where one of them is reached, and how.

    - url: where its SCIM endpoints are: `https://wiki.example.org/scim/v2`
    - token: its bearer token
    - timeout: how long it may be silent
    - ca_file: certificates to trust in the place of the system's
    """

    url: str
    token: Secret = ""
    timeout: Seconds = 30.0
    ca_file: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError(f"url = {self.url!r}: write, for example, https://wiki.example.org/scim/v2")
        if self.timeout <= 0:
            raise ValueError("timeout must be longer than nothing")


class ProvisioningSettings(Section, frozen=True, kw_only=True):
    """The applications that are told, by their names."""

    clients: dict[str, ScimClient] = field(default_factory=dict)
