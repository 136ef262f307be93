"""The shape of a language's table: every sentence that a notice may hold.

Promise:  values. Sentences are whole, since no two languages put them together alike; what stands in braces is filled
          in by str.format with the names below, and with nothing else. A line end within a sentence begins a new line.
Callers:  the tables (en, de, es, fr); run.notice_words fills them in. What is said of attachments stands in
          phases.removal_words.
"""

from collections.abc import Mapping
from typing import NamedTuple

#: What advice there is: subject and detail of an enhanced code (RFC 3463), or ELSE.
ELSE = ""


class Wording(NamedTuple):
    """One language.

    code:     as in `codes`.
    date:     {year} {month} {day} {time}; two digits each, the year four; time as 05:50.
    days, hours, minutes: one, and several, as they stand behind a number in {span}.
    subject_*: the subject of a notice. failed, delayed, delivered, passed_on: its beginning: {server} {date}.
    notice_lost, message_lost: the beginning for the postmaster, in a sender's place: {server}, and {parent}, the ID of
              the message that a lost notice was about.
    in_mailbox, relayed {host} {reply}, expanded, waiting {span}, gave_up {span}, last_answer {reply},
    last_answer_of {host} {reply}, refused {host} {reply}, own_answer {reply}: what happened to a recipient.
    advice:   subject and detail of a code, or ELSE -> what the sender can do; advised: {advice}, its beginning.
    until:    {date}, up to which it is tried.
    closing:  {server} {id}; for the postmaster closing_copy {id}.
    notice, report, message, header: what the parts of a notice are called.
    """

    code: str
    date: str
    days: tuple[str, str]
    hours: tuple[str, str]
    minutes: tuple[str, str]
    subject_failed: str
    subject_delayed: str
    subject_delivered: str
    subject_passed_on: str
    subject_copy: str
    failed: str
    delayed: str
    delivered: str
    passed_on: str
    notice_lost: str
    message_lost: str
    in_mailbox: str
    relayed: str
    expanded: str
    waiting: str
    gave_up: str
    last_answer: str
    last_answer_of: str
    refused: str
    own_answer: str
    advised: str
    advice: Mapping[str, str]
    until: str
    closing: str
    closing_copy: str
    notice: str
    report: str
    message: str
    header: str
