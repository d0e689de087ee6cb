"""A small application: who signs up is greeted at once, and asked on the next day how it goes."""

from datetime import timedelta

from outwork import Outwork, Retry

app = Outwork("redis://queue.example.com")  # never reached by the tests
MEMBERS: set[str] = set()
OUTBOX: list[tuple[str, str]] = []
"""Stands for a mail server; tests look into it."""


class MailServer:
    """Refuses the next `refuses` mails."""

    refuses = 0


@app.task(queue_name="mail", retry=Retry(max_attempts=4, delay=60))
def send_mail(to: str, subject: str) -> None:
    """Send a mail."""
    if MailServer.refuses:
        MailServer.refuses -= 1
        raise ConnectionRefusedError("try again later")
    OUTBOX.append((to, subject))


@app.task
async def ask(to: str) -> None:
    """Ask who is still a member how it goes."""
    if to in MEMBERS:
        await send_mail.aenqueue(to, "How is it going?")


def sign_up(to: str) -> None:
    """What the web page calls."""
    MEMBERS.add(to)
    send_mail.enqueue(to, "Welcome")
    ask.using(run_after=timedelta(days=1)).enqueue(to)
