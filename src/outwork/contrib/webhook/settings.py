"""The `[webhook]` table."""

from __future__ import annotations

from ipaddress import ip_network

from outwork.configuration.sections import Seconds, Secret, Section
from outwork.contrib.webhook.signature import key_of


class WebhookSettings(Section, frozen=True, kw_only=True):
    """How requests are signed, and where they may go.

    - secret: signs the requests of endpoints that have none of their own: `whsec_` and 24 to 64 bytes in base64
    - previous_secret: signs beside it while receivers learn a new one
    - allowed_networks: private addresses that may be asked all the same ("10.1.0.0/16")
    - allow_http: requests may travel unencrypted
    - timeout: how long the receiver may be silent
    - ca_file: certificates to trust in the place of the system's
    """

    secret: Secret = ""
    previous_secret: Secret = ""
    allowed_networks: tuple[str, ...] = ()
    allow_http: bool = False
    timeout: Seconds = 20.0
    ca_file: str = ""

    def __post_init__(self) -> None:
        for name in ("secret", "previous_secret"):
            if secret := getattr(self, name):
                try:
                    key_of(secret)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        for network in self.allowed_networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"allowed_networks: {error}") from None
        if self.timeout <= 0:
            raise ValueError("timeout must be longer than nothing")
