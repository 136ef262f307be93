"""What people are told of an attachment that was taken out: in its place, and its sender.

Promise:  pure. Names are strangers' texts: each stays on one line, without what cannot be seen, and is not too long. A
          language that is not here is English.
Callers:  phases.content_attachments, phases.antivirus_removal.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_LONGEST, _NAMES = 200, 20
_WIDTH = 72


class Words(NamedTuple):
    """One language, of kmq.languages.codes. removed, warned: {server}; why: {reason}; more: {count}."""

    removed: str
    why: str
    sealed: str
    more: str
    subject: str
    warned: str


WORDS: Mapping[str, Words] = {
    "en": Words(
        removed="The mail server {server} has removed an attachment here:",
        why="Reason: {reason}",
        sealed="The message was signed. Its signature does not fit any more, since the attachment is missing.",
        more="and {count} more",
        subject="An attachment of your message was removed",
        warned="The mail server {server} delivered your message without an attachment that is not let through:",
    ),
    "de": Words(
        removed="Der Mailserver {server} hat hier einen Anhang entfernt:",
        why="Grund: {reason}",
        sealed="Die Nachricht war signiert. Ihre Signatur ist nicht mehr gültig, weil der Anhang fehlt.",
        more="und {count} weitere",
        subject="Ein Anhang Ihrer Nachricht wurde entfernt",
        warned="Der Mailserver {server} hat Ihre Nachricht ohne einen Anhang zugestellt, der nicht zugelassen ist:",
    ),
    "es": Words(
        removed="El servidor de correo {server} ha retirado aquí un archivo adjunto:",
        why="Motivo: {reason}",
        sealed="El mensaje estaba firmado. La firma ya no es válida, porque falta el archivo adjunto.",
        more="y {count} más",
        subject="Se ha retirado un archivo adjunto de su mensaje",
        warned="El servidor de correo {server} ha entregado su mensaje sin un archivo adjunto que no se admite:",
    ),
    "fr": Words(
        removed="Le serveur de messagerie {server} a retiré ici une pièce jointe\u00a0:",
        why="Motif\u00a0: {reason}",
        sealed="Le message était signé. La signature n'est plus valable, car la pièce jointe manque.",
        more="et {count} de plus",
        subject="Une pièce jointe de votre message a été retirée",
        warned="Le serveur de messagerie {server} a remis votre message sans une pièce jointe qui n'est pas"
        " admise\u00a0:",
    ),
}


class Removal(NamedTuple):
    """names: of what was removed; reasons: why, each a sentence or a word; sealed: it was signed."""

    names: Sequence[str]
    reasons: Sequence[str]
    sealed: bool = False


def in_place(removal: Removal, server: str, language: str) -> str:
    """The note that stands where the attachment was, lines with LF."""
    words = WORDS.get(language, WORDS["en"])
    return _told(words.removed.format(server=server), removal, words)


def for_sender(removal: Removal, server: str, language: str) -> tuple[str, list[str]]:
    """Subject and lines of the letter to the sender."""
    words = WORDS.get(language, WORDS["en"])
    return words.subject, _told(words.warned.format(server=server), removal, words).split("\n")


def _told(opening: str, removal: Removal, words: Words) -> str:
    names = [f"  {shown(one)}" for one in dict.fromkeys(removal.names)]
    if len(names) > _NAMES:
        names[_NAMES:] = [f"  {words.more.format(count=len(names) - _NAMES)}"]
    reasons = [textwrap.fill(words.why.format(reason=one), _WIDTH) for one in dict.fromkeys(removal.reasons) if one]
    sealed = [textwrap.fill(words.sealed, _WIDTH)] if removal.sealed else []
    return "\n".join(
        (textwrap.fill(opening, _WIDTH), "", *names, *([""] if reasons or sealed else []), *reasons, *sealed)
    )


def shown(name: str) -> str:
    """A stranger's name of a file on one line; what cannot be seen is told, and a long one is cut in the middle."""
    text = "".join(sign if sign.isprintable() else f"<{ord(sign):04x}>" for sign in name)
    return text if len(text) <= _LONGEST else f"{text[:120]}...{text[-77:]}"
