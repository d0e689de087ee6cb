"""The `[sms]` table."""

from __future__ import annotations

from typing import Final, Literal

from outwork.configuration.sections import Seconds, Secret, Section

LONGEST: Final = {"user": 15, "password": 8, "system_type": 12}
"""SMPP 3.4, 4.1.1: longer ones have no place in a bind."""


class SmsSettings(Section, frozen=True, kw_only=True):
    """The SMPP server (SMSC) that takes text messages.

    - user, password: its `system_id` and password, at most 15 and 8 characters; `system_type` if it wants one
    - sender: the number (`+49...`, or a short code) or the name that messages come from when they name none
    - security: "none", or "tls"; `ca_file`: certificates to trust in the place of the system's
    - timeout: how long the server may be silent
    """

    host: str
    port: int = 2775
    user: str = ""
    password: Secret = ""
    system_type: str = ""
    sender: str = ""
    security: Literal["none", "tls"] = "none"
    ca_file: str = ""
    timeout: Seconds = 30.0

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise ValueError("host: the name of the SMPP server is needed")
        if not 0 < self.port < 65_536:
            raise ValueError(f"port = {self.port}: a number from 1 to 65535 is needed")
        if self.timeout <= 0:
            raise ValueError("timeout must be longer than nothing")
        for name, longest in LONGEST.items():
            value: str = getattr(self, name)
            if len(value) > longest or not value.isascii():
                raise ValueError(f"{name}: SMPP has room for {longest} ASCII characters")
