"""The options of [sendmail]: the socket over which the programs of this machine hand in mail.

Promise:  as `sections`; `mistakes` is pure, and looks at the texts of paths alone.
Callers:  `sections` and `reading`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from kmq.config import kinds
from kmq.config.options import option, section

#: What the way in is called beside the receivers, in listeners, envelopes and the log. No receiver can have the name.
RECEIVER = "sendmail"


@section
class SendmailSection:
    """The way in for the programs of this machine: kmq-sendmail(1) and the socket behind it.

    Everybody on this machine may send anywhere. The kernel says who it is; the `Received:` line and the envelope name
    him, whatever the header says.
    """

    socket: str = option(
        kinds.file(),
        derived="${kmq:run_directory}/submit.sock",
        doc="The socket; everybody may connect (mode 0666), as far as its folder lets him through. kmq-sendmail looks"
        " for /run/kmq/submit.sock first, so that it need not read this file. Empty: none.",
    )
    trusted_users: tuple[str, ...] = option(
        kinds.owners(),
        default="root",
        doc="Users who may send in any name. Whatever others send with a sender that is not their own has a line"
        " `X-Authenticated-Sender:`, which names them.",
    )
    messages_per_minute: int = option(
        kinds.whole(1, 1000000),
        default="1000",
        doc="Most messages of one user within a minute, over all receiver processes (450 4.7.1). kmq-sendmail waits up"
        " to 10 s for its turn.",
    )
    sessions: int = option(
        kinds.whole(1, 100000), default="500", doc="Sessions at once, over all receiver processes (421 4.3.2)."
    )
    sessions_per_user: int = option(
        kinds.whole(1, 100000), default="100", doc="Sessions at once of one user (421 4.3.2)."
    )
    size_limit: int = option(kinds.size("1K", "2G"), default="25M", doc="Largest message (552 5.3.4).")
    recipient_limit: int = option(
        kinds.whole(1, 100000), default="1000", doc="Most recipients of one message (452 4.5.3)."
    )
    line_limit: int = option(
        kinds.size("998", "1M"),
        default="1M",
        doc="Longest line of a message in bytes without its end (500 5.5.2). Programs write longer ones than mail"
        " should have (998, RFC 5322 2.1.1), and mailboxes hold them; a server elsewhere that does not says so.",
    )
    hop_limit: int = option(
        kinds.whole(1, 1000), default="50", doc="Most `Received:` lines; more is a loop (554 5.4.6)."
    )
    command_timeout: float = option(
        kinds.duration("100ms", "1h"), default="300s", doc="Longest silence of a program (421 4.4.2)."
    )


def mistakes(run_directory: Path, section: SendmailSection) -> Iterator[tuple[str, str]]:
    """(option, sentence) of what cannot be meant."""
    own = {os.path.normpath(run_directory / name) for name in ("queue.sock", "control.sock", "look.sock")}
    if section.socket and os.path.normpath(section.socket) in own:
        yield "socket", f"{section.socket} is for kmqd itself: name another, such as {run_directory}/submit.sock"
    if section.sessions_per_user > section.sessions:
        yield (
            "sessions_per_user",
            f"sessions_per_user is more than sessions = {section.sessions}, which is for all users",
        )
