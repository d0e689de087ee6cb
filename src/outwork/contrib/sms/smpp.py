"""One part of a text message, by SMPP 3.4: taken, refused for now, or refused for good."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import time
from contextlib import closing
from typing import Any, Final

from smpplib import consts, smpp

from outwork.contrib.sms.settings import SmsSettings
from outwork.errors import GiveUp, TryAgain

logger = logging.getLogger("outwork.sms")

_FAREWELL: Final = 5.0
"""Seconds for the server's goodbye, which changes nothing any more."""
_HEADER: Final = 16
_LONGEST: Final = 65_536
"""Octets: an answer that says to be longer than this is none."""

FOR_NOW: Final = frozenset(
    {
        consts.SMPP_ESME_RINVBNDSTS,
        consts.SMPP_ESME_RALYBND,  # another worker's session: the server allows so many
        consts.SMPP_ESME_RSYSERR,
        consts.SMPP_ESME_RBINDFAIL,
        consts.SMPP_ESME_RMSGQFUL,
        consts.SMPP_ESME_RSUBMITFAIL,  # "submit failed", for no stated reason
        consts.SMPP_ESME_RTHROTTLED,
        consts.SMPP_ESME_RX_T_APPN,
        consts.SMPP_ESME_RDELIVERYFAILURE,
        consts.SMPP_ESME_RUNKNOWNERR,
        *range(0x400, 0x500),  # a vendor's own: nobody can know what they mean
    }
)
"""The statuses (SMPP 3.4, 5.1.3) after which it is worth trying again; any other refusal is for good."""


def submit(settings: SmsSettings, **message: Any) -> str:
    """The id that the server gives to a message that it has taken. `message`: the fields of submit_sm.

    Raises TryAgain for a server that cannot be reached, falls silent, speaks nonsense or has no room; GiveUp for any
    other refusal. Both have the answer in their text.
    """
    place = f"{settings.host}:{settings.port}"
    try:
        with closing(_connected(settings)) as connection:
            session = _Session(connection, place, settings.timeout)
            session.ask(
                "bind_transmitter",
                system_id=settings.user,
                password=settings.password,
                system_type=settings.system_type,
            )
            answer = session.ask("submit_sm", **message)
            session.leave()
            return bytes(answer.message_id or b"").decode("ascii", "replace")
    except OSError as error:
        raise TryAgain(f"{place}: {type(error).__name__}: {error}") from None  # its text is enough


def _connected(settings: SmsSettings) -> socket.socket:
    connection = socket.create_connection((settings.host, settings.port), timeout=settings.timeout)
    if settings.security == "none":
        return connection
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    try:
        return context.wrap_socket(connection, server_hostname=settings.host)
    except BaseException:
        connection.close()
        raise


class _Session:
    """Questions and answers on a connection. smpplib makes and reads the units; its own client is not used, because it
    logs the password of a bind, and believes any length that it is told."""

    def __init__(self, connection: socket.socket, place: str, timeout: float) -> None:
        self._connection = connection
        self._place = place
        self._timeout = timeout
        self.sequence = 0

    def next_sequence(self) -> int:
        """Asked by smpplib."""
        self.sequence += 1
        return self.sequence

    def ask(self, command: str, **fields: Any) -> Any:
        """The answer to a command. Raises TryAgain, GiveUp, OSError."""
        question = smpp.make_pdu(command, client=self, **fields)
        self._connection.sendall(question.generate())
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._read(deadline)
            if answer.command == "enquire_link":
                self._reply(answer)
            elif answer.sequence == question.sequence and answer.command in (f"{command}_resp", "generic_nack"):
                break
        if answer.command == "generic_nack" or answer.is_error():
            self._refuse(command, answer.status)
        return answer

    def leave(self) -> None:
        """Say goodbye. The message is the server's now, so nothing that happens here may fail the attempt."""
        try:
            self._timeout = _FAREWELL
            self.ask("unbind")
        except (OSError, TryAgain, GiveUp) as error:
            logger.debug("the message was taken, the goodbye failed: %s", type(error).__name__)

    def _reply(self, question: Any) -> None:
        reply = smpp.make_pdu("enquire_link_resp", client=self)
        reply.sequence = question.sequence
        self._connection.sendall(reply.generate())

    def _refuse(self, command: str, status: int) -> None:
        words = consts.DESCRIPTIONS.get(status, "a status that SMPP does not know")
        text = f"{self._place} answered to {command}: 0x{status:08X} {words}"
        raise (TryAgain if status in FOR_NOW else GiveUp)(text)

    def _read(self, deadline: float) -> Any:
        head = self._receive(_HEADER, deadline)
        (length,) = struct.unpack(">L", head[:4])
        if not _HEADER <= length <= _LONGEST:
            raise TryAgain(f"{self._place} speaks no SMPP")
        whole = head + self._receive(length - _HEADER, deadline)
        try:
            answer = smpp.parse_pdu(whole, client=self, allow_unknown_opt_params=True)
        except Exception as error:  # smpplib raises whatever happens to it in a unit that makes no sense
            raise TryAgain(f"{self._place} speaks no SMPP: {error}") from error
        if answer is None:
            raise TryAgain(f"{self._place} speaks no SMPP")
        return answer

    def _receive(self, count: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < count:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._connection.recv(count - len(received))
            if not part:
                raise ConnectionError("the server closed the connection")
            received += part
        return bytes(received)
