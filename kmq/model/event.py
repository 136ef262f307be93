"""What can happen to a message: one class each, one line of the envelope each. What is no event did not happen.

Shapes:  every event has `seq` (its number in the message's life, J4) and `at` (RFC 3339 UTC); both are given when the
         event is written, so a phase leaves them out. `rcpt` is a set of recipients as text (`0-2,5`).
         A reply is one line of text as the peer gave it (`550 5.1.1 no such user`). `tls` is how the conversation was
         protected (`TLSv1.3 TLS_AES_256_GCM_SHA384 verified`), "" when it was not.
"""

from typing import Union

import msgspec

from kmq.model import recipients


class Event(msgspec.Struct, omit_defaults=True, tag_field="event"):
    """What all events share."""

    seq: int = 0
    at: str = ""


class Routed(Event, tag="routed"):
    """The categorizer gave recipients their next hop; `rule` says by which line of the configuration."""

    rcpt: str = ""
    hop: str = ""
    rule: str = ""


class Delivered(Event, tag="delivered"):
    """The next hop took responsibility. `attempt` makes a repeated report recognizable (J10); `notice` is the ID of the
    DSN that tells a sender who asked for it.
    """

    rcpt: str = ""
    attempt: int = 0
    reply: str = ""
    host: str = ""
    notice: str = ""
    tls: str = ""


class Failed(Event, tag="failed"):
    """The next hop refused for good, or the time was up; `notice` is the ID of the DSN that tells the sender."""

    rcpt: str = ""
    attempt: int = 0
    reply: str = ""
    host: str = ""
    notice: str = ""
    tls: str = ""


class Delayed(Event, tag="delayed"):
    """The sender has been told that it takes longer, which is done once; `notice` is the ID of that DSN, "" when nobody
    wanted to be told.
    """

    rcpt: str = ""
    reply: str = ""
    notice: str = ""


class Deferred(Event, tag="deferred"):
    """Not now; tried again at `until`. held: the reply was a failure for good, likely by our own fault: why it is held
    (run/grace).
    """

    rcpt: str = ""
    attempt: int = 0
    reply: str = ""
    host: str = ""
    until: str = ""
    tls: str = ""
    held: str = ""


class Expanded(Event, tag="expanded"):
    """An alias: these recipients are done here, and go on as recipients of other messages.

    child: the IDs of those, separated by blanks; "" when all that they stand for were recipients already. rule: the
    place and name of the alias.

    several: it stands for several addresses, or for a list with an owner, so that the sender's wish to hear of success
    ends here (RFC 3461 5.2.7); notice: the ID of the DSN that tells so.
    """

    rcpt: str = ""
    child: str = ""
    rule: str = ""
    several: bool = False
    notice: str = ""


class Crashed(Event, tag="crashed"):
    """A worker that had this message alone died of it in `phase`; at the second one the message goes to poison/.

    n: the assignment, when the worker told of it itself, and may tell again (J10).
    """

    phase: str = ""
    count: int = 0
    trace: str = ""
    n: int = 0


class Moved(Event, tag="moved"):
    """The message lives in another folder now (J4): `home` is `queue` or `poison`."""

    home: str = ""
    reason: str = ""


class Suspended(Event, tag="suspended"):
    """An operator holds these recipients; rcpt "" means all of the message. by: who, as `uid 0`."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""


class Resumed(Event, tag="resumed"):
    """An operator lets these recipients go on; "" means all of the message."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""


class Retried(Event, tag="retried"):
    """An operator asked for an attempt now; rcpt "" means all of the message."""

    by: str = ""
    rcpt: str = ""
    reason: str = ""


class Removing(Event, tag="removing"):
    """An operator removes these recipients ("" means all), which happens when the work in hand has ended, whatever
    crashes meanwhile (J14). ndr: the sender is told then.
    """

    rcpt: str = ""
    by: str = ""
    reason: str = ""
    ndr: bool = False


class Removed(Event, tag="removed"):
    """An operator has removed these recipients: they are done, undelivered, and nobody was told. The rest goes on."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""


class Resubmitted(Event, tag="resubmitted"):
    """An operator sent these recipients ("" means all) back through the categorizer."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""


class Redirected(Event, tag="redirected"):
    """An operator gave these recipients ("" means all) to another connector, whatever routing says from now on."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""
    connector: str = ""


class Replayed(Event, tag="replayed"):
    """A message that was delivered, and is kept, went once more to these recipients, as the message `child`."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""
    child: str = ""


class HeaderEdit(msgspec.Struct, array_like=True, frozen=True):
    """One change of a message's header on its way out; the body in the queue stays as it came.

    how: `add` (a field on top, or behind the first `place` fields), `append` (a field at the end), `set` (in the place
    of all fields of that name, on top when there are none), `remove` (all fields of that name), or `replace`: the
    `place`th field of that name, counted from 1 (an empty value removes it, and where there is none it is appended).
    value: what stands behind the colon as it goes on the wire: encoded words are made, folds are CRLF and a blank.
    """

    how: str
    name: str
    value: str = ""
    place: int = 0


#: What phases say of most mail.
_ROUTINE = frozenset({"", "clean", "archived"})


class Passed(Event, tag="passed"):
    """The message has been through a step of a phase, and will not go through it again.

    rcpt: with these recipients, "" for all: those of the message that wait for an operator's word, or lie in another
    worker's hands, go through it by themselves. phase: its name (model.phase); step: that of the step. by: which rule,
    scanner or target decided; verdict: what was found, for people; "" where there was nothing to say. headers: what
    goes out changed from now on. score: of spam, None when nobody gave one. child: IDs of messages that were made
    (copies, letters to people), separated by blanks.
    archive: the folder below the spool in which the same record gives it names (J4b).
    """

    rcpt: str = ""
    phase: str = ""
    step: str = ""
    by: str = ""
    verdict: str = ""
    headers: tuple[HeaderEdit, ...] = ()
    score: float | None = None
    child: str = ""
    archive: str = ""

    def covers(self, index: int) -> bool:
        """Whether this recipient was with it."""
        return not self.rcpt or index in recipients.from_text(self.rcpt)

    @property
    def remarkable(self) -> bool:
        """Whether anything was found, changed or sent: most mail passes without that."""
        return bool(self.headers or self.child) or self.verdict not in _ROUTINE


class Discarded(Event, tag="discarded"):
    """A rule or a scanner of ours drops these recipients: they are done, undelivered, and nobody is told."""

    rcpt: str = ""
    by: str = ""
    reason: str = ""


class Replaced(Event, tag="replaced"):
    """These recipients are done here: they go on with the message `child`, whose text or sender a phase has changed."""

    rcpt: str = ""
    child: str = ""
    by: str = ""
    reason: str = ""


AnyEvent = Union[  # noqa: UP007
    Routed, Delivered, Failed, Deferred, Delayed, Expanded, Crashed, Moved, Suspended, Resumed, Retried, Removing,
    Removed, Resubmitted, Redirected, Replayed, Passed, Discarded, Replaced
]  # fmt: skip
