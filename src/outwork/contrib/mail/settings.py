"""The `[mail]` table."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, Literal

from outwork.configuration.sections import Seconds, Secret, Section

PORTS: Final = {"none": 25, "starttls": 587, "ssl": 465}


class MailSettings(Section, frozen=True, kw_only=True):
    """The SMTP server that takes mails.

    - security: "none", "starttls", or "ssl" (TLS from the first byte). `port` follows it: 25, 587 or 465
    - user, password: to log in with; without encryption only on this machine, or with `insecure_login`
    - sender: the address that mails come from when they name none
    - timeout: how long the server may be silent; answer_timeout: how long it may think about a mail that it has got
      whole (RFC 5321, 4.5.3.2.6, asks for 10 minutes, because giving up there is how mails come twice)
    - ca_file: certificates to trust in the place of the system's
    - hostname: how this machine names itself to the server
    """

    host: str = "localhost"
    port: int | None = None
    security: Literal["none", "starttls", "ssl"] = "none"
    user: str = ""
    password: Secret = ""
    sender: str = ""
    timeout: Seconds = 30.0
    answer_timeout: Seconds = 600.0
    ca_file: str = ""
    hostname: str = ""
    insecure_login: bool = False

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise ValueError("host: the name of the mail server is needed")
        if self.port is not None and not 0 < self.port < 65_536:
            raise ValueError(f"port = {self.port}: a number from 1 to 65535 is needed")
        if self.timeout <= 0 or self.answer_timeout <= 0:
            raise ValueError("timeout and answer_timeout must be longer than nothing")
        if self.user and self.security == "none" and not self.insecure_login and not _is_here(self.host):
            raise ValueError(
                'the password would travel unencrypted. Set security = "starttls" or "ssl"; or insecure_login = true'
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or PORTS[self.security]


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
