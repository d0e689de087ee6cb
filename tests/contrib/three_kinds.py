"""Mail, text messages and provisioning in one module of tasks: the environment says where the other side listens."""

from __future__ import annotations

import os
from typing import Any

from scim2_models import User

from outwork import Outwork, Retry
from outwork.contrib.mail import Mail, Mailer, MailSettings
from outwork.contrib.provisioning import Kind, Provisioning, ProvisioningSettings, ScimClient
from outwork.contrib.sms import Sms, SmsSettings, Texter

IMPATIENT = Retry(max_attempts=500, delay=0.3, factor=1.0)


def mail() -> MailSettings:
    return MailSettings(host="127.0.0.1", port=int(os.environ["MAIL_PORT"]), sender="shop@example.org")


def sms() -> SmsSettings:
    port = int(os.environ["SMS_PORT"])
    return SmsSettings(host="127.0.0.1", port=port, user="shop", password="secret", sender="Shop")


def scim() -> ProvisioningSettings:
    return ProvisioningSettings(clients={"wiki": ScimClient(url=os.environ["SCIM_URL"], token="a-token")})


def read(client: str, kind: Kind, id: str) -> User[Any]:
    return User(user_name=id)


class Kinds:
    """All three, for one application (None: the default one)."""

    def __init__(self, app: Outwork | None = None) -> None:
        self.mailer = Mailer(mail, app=app, retry=IMPATIENT)
        self.texter = Texter(sms, app=app, retry=IMPATIENT)
        self.provisioning = Provisioning(read, scim, app=app, retry=IMPATIENT)

    def tell(self, who: str) -> None:
        """One job of each kind."""
        self.mailer.send(Mail(to=f"{who}@example.org", subject="Welcome", text=f"Hello {who}"))
        self.texter.send(Sms(to="+491701234567", text=f"Hello {who}"))
        self.provisioning.changed("user", who)

    async def atell(self, who: str) -> None:
        """The same on an event loop."""
        await self.mailer.asend(Mail(to=f"{who}@example.org", subject="Welcome", text=f"Hello {who}"))
        await self.texter.asend(Sms(to="+491701234567", text=f"Hello {who}"))
        await self.provisioning.achanged("user", who)
