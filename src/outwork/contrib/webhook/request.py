"""One request: taken, to be repeated, or refused for good."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping

import httpx2

from outwork.contrib.answers import judge, unlogged
from outwork.contrib.webhook.addresses import resolved
from outwork.contrib.webhook.settings import WebhookSettings
from outwork.errors import TryAgain


def post(settings: WebhookSettings, url: str, headers: Mapping[str, str], body: bytes) -> int:
    """The status of a request that was taken: 2xx.

    Raises TryAgain, after as long a time as the receiver asks for, where it is away, silent or busy; GiveUp for any
    other answer and for a place that requests may not go to. Both have the answer in their text, and of the URL only
    the host: its path is often a secret.
    """
    target = httpx2.URL(url)
    host = target.raw_host.decode("ascii")
    port = target.port or (443 if target.scheme == "https" else 80)
    place = f"{host}:{port}"
    try:
        addresses = resolved(host, port, settings.allowed_networks)
    except OSError as error:
        raise TryAgain(f"{place}: {error}") from None
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    # No proxy of the environment: it would look the name up again, and connect to what it finds.
    with httpx2.Client(verify=context, timeout=settings.timeout, trust_env=False, follow_redirects=False) as client:
        for last, address in ((address == addresses[-1], address) for address in addresses):
            request = client.build_request(
                "POST",
                target.copy_with(host=address),
                headers={**headers, "Host": target.netloc.decode("ascii")},
                content=body,
                extensions={"sni_hostname": host},  # the name that the certificate must have
            )
            try:
                with unlogged():
                    answer = client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if last:
                    raise TryAgain(f"{place}: {type(error).__name__}: {error}") from None
                continue
            except httpx2.HTTPError as error:
                raise TryAgain(f"{place}: {type(error).__name__}: {error}") from None
            try:
                judge(place, answer)
            finally:
                answer.close()
            return answer.status_code
    raise TryAgain(f"{place}: no address")


def now() -> int:
    """Unix seconds, for a signature."""
    return int(time.time())
