"""The subject of a message as it goes out, and marks ahead of it.

Promise:  the subject is the sender's, encoded words and all; what is not ASCII goes into encoded words. Bounded, as
          headers are (fields.LIMIT).
Callers:  phases.antivirus, phases.antispam.
"""

import os
from collections.abc import Sequence

from kmq.model import fields
from kmq.model.event import HeaderEdit
from kmq.phases.edits import edited
from kmq.phases.encoded_words import worded
from kmq.phases.header_words import decoded
from kmq.phases.work import Body

#: Characters of a subject that are kept behind a mark.
_MOST = 900


def header_of(body: Body) -> bytes:
    """The header as it came; of a large body it is read, which blocks. OSError as the system says it."""
    if body.text is not None:
        return body.text[: fields.end(body.text[: fields.LIMIT])]
    fd = os.open(body.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        text = file.read(fields.LIMIT)
    return text[: fields.end(text)]


def subject_of(header: bytes, edits: Sequence[HeaderEdit]) -> bytes:
    """What stands behind `Subject:` when the changes so far are made; b"" when there is none."""
    found = fields.read(edited(header, edits))
    return next((one.value for one in found if one.name == b"subject"), b"")


def marked(form: str, subject: bytes) -> HeaderEdit:
    """The subject in a form whose `%s` stands for what it is."""
    text = subject.decode("ascii") if subject.isascii() and form.isascii() else decoded(subject)
    text = text[:_MOST]
    whole = form.replace("%s", worded(text)) if form.isascii() else worded(form.replace("%s", text))
    return HeaderEdit("set", "Subject", whole.strip())
