"""A reader of the spool written from man/kmq-spool.5 alone: the page is enough to read one's mail without kmq.

What it does:  reads a spool at rest (checkpoint, segments, records, envelopes, bodies) with the standard library and
               says of each message where it lives, what happened to it, what the journal adds, and its row of the
               table LEGAL STATES.
It promises:   to change nothing, and to import nothing of kmq.
On crash:      nothing to repair.
Callers:       the tests that hold kmq and its manual page to each other; people: python second_reader.py SPOOL
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 4096
RECORD = struct.Struct("<4sIIQI")
SUMMED = struct.Struct("<IQIQ")
OPERATION = struct.Struct("<BQIII")
PUT, APPEND, MOVE, REMOVE, KEEP, MARK, ARCHIVE = 1, 2, 3, 4, 5, 6, 7
NAME = re.compile(r"([0-9a-f]{8}-[0-9a-f]{8})\.(env|eml|put|reason)")
SEGMENT = re.compile(r"([0-9a-f]{8})\.([0-9a-f]{4})\.log")
OF_LOG = re.compile(SEGMENT.pattern + r"|spare\..*|damaged\..*|checkpoint|.*\.new|README\.md")
QUEUE, POISON = HOMES = ("queue", "poison")

Line = dict[str, object]


@dataclass
class Message:
    """Everything the files and the journal say of one ID.

    files: (home, ending) -> path; parts: the same -> "+" there and whole, "!" there and not whole, "x" another's.
    kept: the day of a keep or a mark; archived: folder -> the last event of the envelope there.
    added: seq -> event line that the journal holds.
    incoming: the body's name below incoming/, of a put without body.
    """

    id: str
    files: dict[tuple[str, str], Path] = field(default_factory=dict)
    parts: dict[tuple[str, str], str] = field(default_factory=dict)
    put: bool = False
    head_line: bytes = b""
    body: bytes | None = None
    incoming: str = ""
    added: dict[int, bytes] = field(default_factory=dict)
    moved: bool = False
    removed: bool = False
    kept: str = ""
    archived: dict[str, int] = field(default_factory=dict)
    head: Line | None = None
    events: list[Line] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)  # seq of events that the journal has and the envelope has not
    damaged_lines: int = 0
    home: str = QUEUE
    state: str = ""


@dataclass
class Journal:
    """The payloads that count, in order; damage: whether a part of it is lost."""

    payloads: list[bytes]
    damaged: bool
    checkpoint: Line | None


def unseal(line: bytes) -> Line | None:
    """The object of a sealed line; None where its checksum is wrong: it did not happen."""
    if line[:8] != b'{"sum":"' or line[16:18] != b'",' or line[8:16] != b"%08x" % zlib.crc32(line[18:]):
        return None
    read = json.loads(line)
    return read if isinstance(read, dict) else None


def number_in(line: Line, name: str) -> int:
    """A member that is a number."""
    value = line[name]
    assert isinstance(value, int)
    return value


# --- the journal ------------------------------------------------------------------------------------------------------


def record_at(segment: bytes, offset: int, generation: int, number: int | None) -> tuple[int, bytes] | None:
    """(number, payload) of the valid record that begins at offset; number None: whichever it is."""
    if offset + RECORD.size > len(segment):
        return None
    magic, length, its_generation, its_number, checksum = RECORD.unpack_from(segment, offset)
    payload = segment[offset + RECORD.size : offset + RECORD.size + length]
    if magic != b"kmqR" or its_generation != generation or number not in (None, its_number) or len(payload) != length:
        return None
    summed = SUMMED.pack(generation, its_number, length, offset) + payload
    return (its_number, payload) if zlib.crc32(summed) == checksum else None


def first_number(segment: bytes, generation: int, serial: int) -> int | None:
    """None: prepared, and not begun."""
    header = unseal(segment[:BLOCK].rstrip(b" \n"))
    if header and (header.get("generation"), header.get("serial")) == (generation, serial):
        return number_in(header, "first")
    found = record_at(segment, BLOCK, generation, None)
    return found[0] if found else None


def records(segment: bytes, generation: int, first: int) -> tuple[list[tuple[int, bytes]], bool]:
    """(number, payload) of every valid record, and whether the segment is damaged behind the last of them."""
    found: list[tuple[int, bytes]] = []
    offset, number = BLOCK, first
    while offset < len(segment):
        record = record_at(segment, offset, generation, number)
        if record:
            found.append(record)
            offset, number = offset + RECORD.size + len(record[1]), number + 1
        elif offset % BLOCK:
            offset += BLOCK - offset % BLOCK
        else:
            break
    later = (record_at(segment, place, generation, None) for place in range(offset, len(segment), BLOCK))
    return found, any(one is not None and one[0] > number for one in later)


def read_journal(folder: Path) -> Journal:
    """Generation after generation, each with its segments joined by the numbers of their records."""
    file = folder / "checkpoint"
    checkpoint = unseal(file.read_bytes().rstrip()) if file.exists() else None
    generations: dict[int, dict[int, bytes]] = defaultdict(dict)
    damaged = set()
    for path in sorted(folder.glob("*.log")):
        name = SEGMENT.fullmatch(path.name)
        segment = path.read_bytes()
        generation, serial = (int(name[1], 16), int(name[2], 16)) if name else (0, 0)
        first = first_number(segment, generation, serial) if name else None
        if first is None:
            continue
        numbered = generations[generation]
        for void in [number for number in numbered if number >= first]:
            del numbered[void]
        found, torn = records(segment, generation, first)
        damaged |= {generation} if torn else set()
        if first == 1 or first - 1 in numbered:
            numbered.update(found)
    newest = max(generations, default=0)
    oldest = newest
    while oldest - 1 in generations:
        oldest -= 1
    if checkpoint:
        oldest = number_in(checkpoint, "generation")
    gaps = set(range(oldest, newest)) - generations.keys()
    counted = [generations[one] for one in sorted(generations) if one >= oldest]
    payloads = [numbered[number] for numbered in counted for number in sorted(numbered)]
    return Journal(payloads, bool(gaps or damaged), checkpoint)


def replay(payload: bytes, messages: dict[str, Message]) -> None:
    """Notes at each message what the operations of one record say of it."""
    offset = 0
    while offset < len(payload):
        kind, number, s, a, b = OPERATION.unpack_from(payload, offset)
        offset += OPERATION.size
        name = f"{number >> 32:08x}-{number & 0xFFFFFFFF:08x}"
        message = messages.setdefault(name, Message(name))
        if kind == PUT:
            extra, texts = payload[offset : offset + s], payload[offset + s : offset + s + a + b]
            place = json.loads(extra[16:]) if extra[16:] else {}
            message.put, message.head_line, message.incoming = True, texts[:a], place.get("incoming", "")
            message.body = None if message.incoming else texts[a:]
            offset += s + a + b
        elif kind == REMOVE:
            message.removed = True
        elif kind == KEEP:
            message.kept = _day(b)
        elif kind == ARCHIVE:
            message.archived[payload[offset : offset + a].decode()] = s
            offset += a
        else:
            assert kind in (APPEND, MOVE, MARK)
            message.kept = _day(b) if kind == MARK else message.kept
            message.added[s] = payload[offset : offset + a]
            message.moved |= kind == MOVE
            offset += a


def _day(number: int) -> str:
    text = str(number)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


# --- the plain files --------------------------------------------------------------------------------------------------


def find_files(spool: Path, messages: dict[str, Message]) -> list[str]:
    """Notes every file of a message at its message; -> the names that kmq did not make, below the spool."""
    strange = [f"journal/{path.name}" for path in (spool / "journal").iterdir() if not OF_LOG.fullmatch(path.name)]
    folders = [(one, QUEUE) for one in sorted((spool / QUEUE).iterdir())] + [(spool / POISON, POISON)]
    for folder, home in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
            name = NAME.fullmatch(path.name)
            right = name and (home == POISON or folder.name == f"{name[1][:5]}-{name[1][9:13]}")
            if name and right and name[2] != ("put" if home == POISON else "reason"):
                messages.setdefault(name[1], Message(name[1])).files[home, name[2]] = path
            elif not path.name.endswith(".new") and path.name != "README.md" and not _copy(path.name, home):
                strange.append(str(path.relative_to(spool)))
    return strange


def _copy(name: str, home: str) -> bool:
    return home == POISON and re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{8}\.[0-9]+\.(env|eml)", name) is not None


def lines_of(path: Path) -> list[bytes]:
    return [line for line in re.split(rb"[\n\0]", path.read_bytes() if path.is_file() else b"") if line]


def read_envelope(message: Message) -> None:
    """The head, and the events of files and journal in the order of seq."""
    events: dict[int, Line] = {}
    message.head = unseal(message.head_line) if message.put else None
    for home in HOMES:
        path = message.files.get((home, "env"))
        if path is None:
            continue
        lines = lines_of(path)
        head = unseal(lines[0]) if lines else None
        whole = head is not None and "recipients" in head
        own = head is not None and head.get("id") == message.id
        message.parts[home, "env"] = "!" if not whole else "+" if own else "x"
        if message.parts[home, "env"] == "+":
            message.head = message.head or head
        read = [unseal(line) for line in lines[1:]]
        if message.parts[home, "env"] != "x":
            events.update({number_in(one, "seq"): one for one in read if one})
        if message.parts[home, "env"] == "+":
            standing = [line for line in lines[1:] if unseal(line)] + list(message.added.values())
            torn = [line for line in lines[1:] if not unseal(line) and not any(line in one for one in standing)]
            message.damaged_lines += len(torn)
    message.missing = sorted(message.added.keys() - events.keys())
    added = {seq: unseal(message.added[seq]) for seq in message.missing}
    events.update({seq: one for seq, one in added.items() if one})
    message.events = [events[seq] for seq in sorted(events)]


def whole_body(path: Path, head: Line | None) -> bool:
    """Whether a file has size and checksum of the head."""
    if head is None or not path.is_file():
        return False
    body = path.read_bytes()
    return len(body) == head.get("size") and hashlib.sha256(body).hexdigest() == head.get("sha256")


def judge(message: Message, spool: Path, plain: bool) -> None:
    """Its bodies, its home and its row; and what stands for a record where there is no journal."""
    if plain:
        _without_journal(message)
    for home in HOMES:
        path = message.files.get((home, "eml"))
        if path is not None:
            message.parts[home, "eml"] = "+" if whole_body(path, message.head) else "!"
    mails = message.body is not None or "+" in (message.parts.get((home, "eml")) for home in HOMES)
    mails = mails or (bool(message.incoming) and whole_body(spool / "incoming" / message.incoming, message.head))
    if message.put and not mails and not message.parts:
        message.parts[QUEUE, "env"] = "+"
    moves = [one["home"] for one in message.events if one["event"] == "moved"]
    lies = POISON if (POISON, "env") in message.files and (QUEUE, "env") not in message.files else QUEUE
    message.home = str(moves[-1]) if moves else lies
    message.state = row(
        [message.parts.get((home, ending), "-") for home in HOMES for ending in ("eml", "env")],
        put=message.put and mails,
        move=message.moved,
        remove=message.removed,
        reason=(POISON, "reason") in message.files,
    )


def _without_journal(message: Message) -> None:
    """What stands for records."""
    mail = {key: path for key, path in message.files.items() if key[1] in ("env", "eml")}
    unborn, body = message.files.get((QUEUE, "put")), message.files.get((QUEUE, "eml"))
    line = next(iter(lines_of(unborn)), b"") if unborn else b""
    head = unseal(line)
    if head and head.get("id") == message.id and body and whole_body(body, head):
        message.put, message.head_line, message.head = True, line, message.head or head
    elif len(mail) == 1 and "eml" in {ending for _, ending in mail}:
        message.removed = True
    message.moved = {home for home, _ in mail} == {*HOMES}


# --- the table LEGAL STATES -------------------------------------------------------------------------------------------


def row(parts: list[str], put: bool, move: bool, remove: bool, reason: bool) -> str:
    """The row of what lies there, in the order of the table's columns: body and envelope in queue/, then in poison/."""
    queue, poison = parts[:2], parts[2:]
    nothing = ["-", "-"]
    both = queue != nothing and poison != nothing
    whole = "+" in (parts[0], parts[2]) and "+" in (parts[1], parts[3])
    alone = queue == nothing or poison == nothing
    if remove or parts == nothing * 2:
        return "S6" if parts != nothing * 2 else "S1" if put and not remove else "S7"
    if alone and whole:
        return "S3" if poison == nothing else "S5"
    if both and whole and move:
        return "S4"
    if queue == nothing and reason:
        return "S5"
    if put:
        return "S2"
    if both and not move:
        return "D6"
    body, envelope = queue if queue != nothing else poison
    return {"-": "D1", "!": "D3", "x": "D5"}.get(envelope) or ("D2" if body == "-" else "D4")


# --- what is kept after delivery --------------------------------------------------------------------------------------


def read_kept(spool: Path) -> dict[str, tuple[str, str, list[Line]]]:
    """ID -> the day, S9 or D11, and the events of each message in sent/."""
    return _read_folders(spool / "sent", r"\d{4}-\d\d-\d\d", "S9", "D11")


def read_archived(spool: Path) -> dict[str, tuple[str, str, list[Line]]]:
    """ID -> the folder, S10 or D13, and the events of each message in backup/."""
    return _read_folders(spool / "backup", r"\d{4}-(\d\d-\d\d|W\d\d|\d\d)", "S10", "D13")


def _read_folders(place: Path, named: str, whole: str, damaged: str) -> dict[str, tuple[str, str, list[Line]]]:
    found: dict[str, tuple[str, str, list[Line]]] = {}
    for folder in sorted(place.iterdir()):
        if not re.fullmatch(named, folder.name):
            continue
        for name in sorted({path.stem for path in folder.iterdir() if NAME.fullmatch(path.name)}):
            lines = lines_of(folder / f"{name}.env")
            head = unseal(lines[0]) if lines else None
            own = head is not None and "recipients" in head and head.get("id") == name
            good = own and whole_body(folder / f"{name}.eml", head)
            events = {number_in(one, "seq"): one for one in map(unseal, lines[1:]) if one}
            found[name] = (folder.name, whole if good else damaged, [events[seq] for seq in sorted(events)])
    return found


def read_state(spool: Path) -> tuple[dict[str, list[Line]], bool]:
    """The lines of the files in state/, and whether some are damaged (D12)."""
    found: dict[str, list[Line]] = {}
    damaged = False
    for name in ("queues", "connectors"):
        path = spool / "state" / name
        lines = [unseal(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []
        found[name] = [line for line in lines if line]
        damaged |= None in lines
    return found, damaged


@dataclass
class Reading:
    """A whole spool: messages by ID, names that kmq did not make, and what is true of it as a whole (D7, D9, D10, D12).

    kept: what lies in sent/; archived: in backup/.
    """

    messages: dict[str, Message]
    strange: list[str]
    damage: set[str]
    kept: dict[str, tuple[str, str, list[Line]]] = field(default_factory=dict)
    archived: dict[str, tuple[str, str, list[Line]]] = field(default_factory=dict)


def read_spool(spool: Path) -> Reading:
    """Reads everything."""
    messages: dict[str, Message] = {}
    journal = read_journal(spool / "journal")
    strange = find_files(spool, messages)
    for payload in journal.payloads:
        replay(payload, messages)
    plain = bool(journal.checkpoint and journal.checkpoint.get("plain"))
    for message in messages.values():
        read_envelope(message)
        judge(message, spool, plain)
    lost = journal.checkpoint is None and (spool / "journal" / "checkpoint").exists()
    damage = {"D7"} if strange else set()
    damage |= ({"D9"} if lost else set()) | ({"D10"} if journal.damaged else set())
    damage |= {"D12"} if read_state(spool)[1] else set()
    found = {name: messages[name] for name in sorted(messages)}
    return Reading(found, strange, damage, read_kept(spool), read_archived(spool))


if __name__ == "__main__":
    for one in read_spool(Path(sys.argv[1])).messages.values():
        print(one.id, one.home, one.state, *(event["event"] for event in one.events))
    for id_, (day, row_, told) in read_kept(Path(sys.argv[1])).items():
        print(id_, f"sent/{day}", row_, *(event["event"] for event in told))
