"""The field's spellings of a Redis server, as a URL of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from outwork.brokers.url import masked
from outwork.errors import SettingsError

TRANSLATED: Final = {
    "ssl_ca_certs": "ca",
    "ssl_certfile": "cert",
    "ssl_keyfile": "key",
    "socket_timeout": "timeout",
    "socket_connect_timeout": "connect_timeout",
    "db": "db",
}
DROPPED: Final = frozenset(
    {
        *("protocol", "decode_responses", "encoding", "max_connections", "health_check_interval"),
        *("retry", "retry_on_timeout", "retry_on_error", "socket_keepalive", "socket_keepalive_options"),
        *("client_name", "lib_name", "lib_version", "ssl_check_hostname"),
    }
)
"""What says how the driver works, not where the server is."""


def url_of(host: Any) -> str:
    """A URL, (host, port), or a dict: `address` with options, `host` and `port`, or `sentinels` and `master_name`.

    Raises SettingsError.
    """
    if isinstance(host, str):
        return _translated(host, {})
    if isinstance(host, Mapping):
        return _from_mapping(dict(host))
    if isinstance(host, Sequence) and len(host) == 2:
        return f"redis://{_place(*host)}"
    raise SettingsError(f"hosts: {type(host).__name__} is no server. Write a URL, (host, port), or a dict of these")


def _from_mapping(given: dict[str, Any]) -> str:
    if "address" in given:
        return _translated(given.pop("address"), given)
    user = _user(given.pop("username", None), given.pop("password", None))
    if "sentinels" in given:
        sentinels = ",".join(_place(*sentinel) for sentinel in given.pop("sentinels"))
        service = given.pop("master_name", None)
        if not service:
            raise SettingsError("hosts: sentinels need a master_name, under which they monitor the server")
        of_sentinels = given.pop("sentinel_kwargs", None) or {}
        more = {f"sentinel_{name}": of_sentinels[name] for name in ("username", "password") if of_sentinels.get(name)}
        scheme = "rediss" if given.pop("ssl", False) else "redis"
        return _translated(f"{scheme}+sentinel://{user}{sentinels}/{quote(service)}", {**given, **more})
    if "path" in given or "unix_socket_path" in given:
        path = given.pop("path", None) or given.pop("unix_socket_path")
        return _translated(f"unix://{user}{quote(path)}", given)
    scheme = "rediss" if given.pop("ssl", False) else "redis"
    place = _place(given.pop("host", "localhost"), given.pop("port", 6379))
    return _translated(f"{scheme}://{user}{place}", given)


def _translated(url: str, more: Mapping[str, Any]) -> str:
    """The URL with the driver's options in our words."""
    parts = urlsplit(url)
    options: dict[str, str] = {}
    given = [*parse_qsl(parts.query, keep_blank_values=True), *((name, value) for name, value in more.items())]
    for name, value in given:
        if name in DROPPED or value is None:
            continue
        if name == "ssl_cert_reqs":
            options["verify"] = "false" if str(value).lower() in ("none", "0", "verifymode.cert_none") else "true"
        elif name in ("username", "password") and not parts.netloc.rpartition("@")[1]:
            raise SettingsError(f"hosts: write the {name} in the URL: {parts.scheme}://user:password@host")
        else:
            options[TRANSLATED.get(name, name)] = str(value)
    try:
        return urlunsplit(parts._replace(query=urlencode(options)))
    except ValueError as error:
        raise SettingsError(f"hosts: {masked(url)}: {error}") from error


def _user(name: Any, password: Any) -> str:
    if name is None and password is None:
        return ""
    return f"{quote(name or '', safe='')}:{quote(password or '', safe='')}@"


def _place(host: str, port: Any) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
