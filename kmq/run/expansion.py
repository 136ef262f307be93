"""From aliases to messages: what the recipients of a message that are aliases go on as.

Does:     one child message for each envelope sender, of at most CHILD recipients each; who was a recipient already, of
          the message or by another alias, gets no second copy.
Promise:  pure. A child is its parent but for sender and recipients: its body has the same bytes, its head says what
          delivery must know of them, so nothing of a body is read here. What does not go into one result waits for the
          next; what could never go into one is deferred, with the reason.
Owner:    under an owner the notices are his: what the sender wished about notices (RFC 3461) is not his wish.
On crash: made again; the children and the Expanded that tells of them are in one record, so it counts once (J10).
Callers:  run.walk.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from kmq.model import recipients
from kmq.model.envelope import Head, Recipient, head_tail
from kmq.model.event import Event, Expanded, Routed
from kmq.model.frame import Child
from kmq.model.orcpt import orcpt_of
from kmq.model.reply import Reply
from kmq.phases.work import Body, result
from kmq.routing.expanding import Expansion, Final

CHILD = 1000  #: recipients of one child
EXPANSIONS = 500  #: aliases of one result, whose events go in one frame
HEADS = 8 << 20  #: bytes of the heads of one result, which go in one frame and one record
BODIES = 256 << 10  #: bytes of bodies that travel with a result; beyond, they go through incoming/
KIND = "expansion"

TOO_MANY = Reply(451, "4.3.5", "the alias stands for more addresses than one message of the queue can go on as")


class Draft(NamedTuple):
    """A child without its body: the tail of its head, and how many recipients it has."""

    tail: bytes
    members: int


class Drafts(NamedTuple):
    """The children of one result, and the events that tell of them by their places (frame.Child)."""

    children: list[Draft]
    events: list[Event]

    def light(self, body: Body) -> bool:
        """Whether the body may travel with each child."""
        return not self.children or (body.text is not None and len(self.children) * len(body.text) <= BODIES)

    def with_body(self, body: Body) -> tuple[list[Child], bytes]:
        """As a result bears them, the body with each."""
        text = body.text or b""
        raw = b"".join(part for child in self.children for part in (child.tail, text))
        return [Child(one.members, len(one.tail), len(text), kind=KIND) for one in self.children], raw

    def with_names(self, names: Sequence[str], sha256: str) -> tuple[list[Child], bytes]:
        """The same with names in incoming/, one each."""
        children = [
            Child(one.members, len(one.tail), 0, kind=KIND, incoming=name, sha256=sha256)
            for one, name in zip(self.children, names, strict=True)
        ]
        return children, b"".join(one.tail for one in self.children)


def draft(head: Head, expansions: Sequence[tuple[int, Expansion]], present: Iterable[str], attempt: int) -> Drafts:
    """The children of aliases. present: addresses that are recipients already. Some expansions may be left out: those
    recipients are in no event, and are assigned again."""
    made = _Making(head, present)
    for index, expansion in expansions[:EXPANSIONS]:
        if not made.add(index, expansion):
            if not made.found:
                made.events.append(result(str(index), attempt, TOO_MANY, ""))
            break
    return made.drafts()


def present(head: Head, events: Iterable[Event]) -> list[str]:
    """The addresses that get the message itself, by these events."""
    found = [recipients.from_text(event.rcpt) for event in events if isinstance(event, Routed)]
    return [head.recipients[index].address for indices in found for index in indices]


class _Making:
    """Children under way. found: index, rule, whether it is several, and senders and places of those that it adds."""

    def __init__(self, head: Head, present: Iterable[str]) -> None:
        self.events: list[Event] = []
        self.found: list[tuple[int, str, bool, set[tuple[str, int]]]] = []
        self._head = head
        self._present = {address.lower() for address in present}
        self._members: dict[str, list[Recipient]] = {}
        self._bytes = 0

    def add(self, index: int, expansion: Expansion) -> bool:
        """False, and nothing is added, when it would be too much."""
        parent = self._head.recipients[index]
        orcpt = parent.orcpt or orcpt_of(parent.address)
        taken: dict[str, tuple[str, Recipient]] = {}
        several = len(expansion.finals) > 1 or any(final.owner for final in expansion.finals)
        notify = without_success(parent.notify) if several else parent.notify
        weight = 0
        for final in expansion.finals:
            key = final.address.lower()
            if key not in self._present and key not in taken:
                sender, member = self._member(parent, notify, orcpt, final)
                taken[key] = sender, member
                weight += _weight(member)
        if self._bytes + weight > HEADS:
            return False
        self._bytes += weight
        self._present.update(taken)
        places: set[tuple[str, int]] = set()
        for sender, member in taken.values():
            members = self._members.setdefault(sender, [])
            places.add((sender, len(members) // CHILD))
            members.append(member)
        self.found.append((index, expansion.rule, several, places))
        return True

    def _member(self, parent: Recipient, notify: str, orcpt: str, final: Final) -> tuple[str, Recipient]:
        original = parent.original or parent.address
        if final.owner and self._head.sender:
            return final.owner, Recipient(final.address, original=original)
        return self._head.sender, Recipient(final.address, notify, orcpt, original)

    def drafts(self) -> Drafts:
        children: list[Draft] = []
        place_of: dict[tuple[str, int], int] = {}
        for sender, members in self._members.items():
            for start in range(0, len(members), CHILD):
                place_of[sender, start // CHILD] = len(children)
                part = members[start : start + CHILD]
                children.append(Draft(head_tail(_child(self._head, sender, part)), len(part)))
        events = list(self.events)
        groups: dict[tuple[str, str, bool], list[int]] = {}
        for index, rule, several, places in self.found:
            child = " ".join(str(place) for place in sorted(place_of[one] for one in places))
            groups.setdefault((child, rule, several), []).append(index)
        for (child, rule, several), indices in groups.items():
            events.append(Expanded(rcpt=recipients.as_text(indices), child=child, rule=rule, several=several))
        return Drafts(children, events)


def _child(head: Head, sender: str, members: list[Recipient]) -> Head:
    mine = sender == head.sender
    return msgspec.structs.replace(
        head,
        sender=sender,
        recipients=members,
        source=msgspec.structs.replace(head.source, how="alias"),
        ret=head.ret if mine else "",
        envid=head.envid if mine else "",
        parent=head.id,
    )


def without_success(notify: str) -> str:
    """What the members of a list are asked: the sender hears of success when it is expanded, not from each."""
    if not notify:
        return ""
    return ",".join(word for word in notify.split(",") if word.upper() != "SUCCESS") or "NEVER"


def _weight(member: Recipient) -> int:
    """No less than its bytes in a head, quotes and names of its members included."""
    return sum(map(_bytes, (member.address, member.notify, member.orcpt, member.original))) + 64


def _bytes(text: str) -> int:
    """JSON escapes quotes and backslashes with one sign more; UTF-8 has at most four bytes for a character."""
    if not text.isascii():
        return 4 * len(text)
    return 2 * len(text) if '"' in text or "\\" in text else len(text)
