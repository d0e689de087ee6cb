"""A real SMTP server (aiosmtpd) in a thread, which refuses, hesitates and goes away as a test wants it; and servers
that speak nonsense."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, NamedTuple, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from support.ports import free_port
from support.waiting import until


class Received(NamedTuple):
    """A mail that was taken: the envelope, and what was in it."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=default)


class MailServer:
    """Listens on a port of 127.0.0.1 that stays the same while it is stopped and started.

    - answers: what is said to a recipient (`550 5.1.1 no such user`) instead of OK
    - data_answer: what is said to the mail itself instead of OK
    - hang_up: take the mail, and close the connection in the place of an answer
    - go_on: cleared, the server does not answer to a recipient before it is set
    - login: the name and password that it wants; `tls`: a context, for STARTTLS, or with `implicit` from the first byte
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
        utf8: bool = False,
        size_limit: int = 33_554_432,
    ) -> None:
        self.mails: list[Received] = []
        self.answers: dict[str, str] = {}
        self.data_answer = ""
        self.hang_up = False
        self.go_on = threading.Event()
        self.go_on.set()
        self.asked: list[str] = []
        """The recipients that clients named, whatever the answer was."""
        self.logins: list[tuple[str, str]] = []
        self._login = login
        self._implicit = tls if implicit else None
        self._options: dict[str, Any] = {
            "enable_SMTPUTF8": utf8,
            "data_size_limit": size_limit,
            "hostname": "mail.test",
            "tls_context": None if implicit else tls,
            "auth_require_tls": tls is not None and not implicit,
            "authenticator": self._authenticate if login else None,
            "auth_exclude_mechanism": [] if login else ["LOGIN", "PLAIN"],
        }
        self.port = free_port()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._sessions: list[SMTP] = []
        self.start()

    def start(self) -> None:
        """Listen. Returns when it does."""
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(60), "the mail server does not listen"

    def stop(self) -> None:
        """Be gone, at once: connections are refused, those that are open break."""
        self.go_on.set()
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)
            self._loop = self._thread = None

    def wait_for(self, count: int) -> list[Received]:
        """So many mails, once they are there."""
        until(lambda: len(self.mails) >= count, f"{count} mails")
        return self.mails

    def _run(self, ready: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(
            loop.create_server(self._session, "127.0.0.1", self.port, ssl=self._implicit, reuse_address=True)
        )
        self._loop = loop
        ready.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            for session in self._sessions:
                if session.transport is not None:
                    cast("asyncio.Transport", session.transport).abort()
            self._sessions.clear()
            pending = asyncio.all_tasks(loop)
            for task in pending:
                task.cancel()
            if pending:
                loop.run_until_complete(asyncio.wait(pending))
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def _session(self) -> SMTP:
        loop = asyncio.get_running_loop()
        session = SMTP(self, loop=loop, **self._options)
        self._sessions.append(session)
        return session

    # ---- what aiosmtpd asks -----------------------------------------------------------------------------------------

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        self.asked.append(address)
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)
        if address in self.answers:
            return self.answers[address]
        if self._login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        if self.data_answer:
            return self.data_answer
        self.mails.append(Received(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.original_content))
        if self.hang_up:
            cast("asyncio.Transport", server.transport).abort()
        return f"250 2.0.0 queued as {len(self.mails)}"

    def _authenticate(self, server: SMTP, session: Any, envelope: Any, mechanism: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = data.login.decode(), data.password.decode()
        self.logins.append(given)
        return AuthResult(success=given == self._login, handled=False)


class NonsenseServer:
    """Takes connections and says the same to each, one thing for each line that it hears; then it hangs up, or is
    silent."""

    def __init__(self, *said: bytes, hangs_up: bool = True) -> None:
        self._said = said
        self._hangs_up = hangs_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)

    def _run(self) -> None:
        open_ones: list[socket.socket] = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            self.connections += 1
            with suppress(OSError):
                connection.settimeout(10)
                for index, words in enumerate(self._said):
                    if index:
                        connection.recv(4096)
                    connection.sendall(words)
            if self._hangs_up:
                connection.close()
            else:
                open_ones.append(connection)
        for connection in open_ones:
            connection.close()
