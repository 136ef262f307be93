"""Terminating: the last phase. What failed for good is told to the sender.

Promise:  what has been delivered is told in any case: a mistake of ours while a notice is made leaves the failure
          unnoticed (Done.unnoticed), and the message is set aside.
On crash: run again with the same events; the notice is in the same record as the failure (design: durability).
Callers:  run.walk.
"""

import time
from collections.abc import Sequence

from kmq import log
from kmq.model import hop, recipients
from kmq.model.event import Failed
from kmq.model.frame import Child, Done
from kmq.run import notices
from kmq.run.job import Job

#: Bytes of a body that a notice may need: its header.
_HEADER_LIMIT = 128 * 1024
_UNREACHABLE = str(hop.UNREACHABLE)


def with_notice(job: Job, done: Done, failed: Sequence[Failed], hostname: str) -> bytes:
    """Adds the notice about these failures to a result, if one is owed; -> the bytes that follow the result."""
    try:
        made = _notice(job, failed, hostname)
    except Exception as error:
        log.error("no notice could be made of a failure", id=job.assign.m, trace=log.traced(error))
        made = None
    if made is None:
        done.unnoticed = notices.wanted(job.head, _indices(failed))
        return b""
    tail, count, body, stamp = made
    done.children = [Child(count, len(tail), len(body), stamp)]
    return tail + body


def _notice(job: Job, failed: Sequence[Failed], hostname: str) -> notices.Notice | None:
    failures = [(index, one.reply, one.host) for one in failed for index in recipients.from_text(one.rcpt)]
    expired = bool(job.assign.expire) and job.assign.hop != _UNREACHABLE  # that was never tried
    return notices.compose(job.head, _header(job), failures, hostname, time.time(), expired)


def _header(job: Job) -> bytes:
    if job.body.text is not None:
        return job.body.text[:_HEADER_LIMIT]
    try:
        with open(job.body.path, "rb") as file:
            return file.read(_HEADER_LIMIT)
    except OSError:
        return b""


def _indices(failed: Sequence[Failed]) -> list[int]:
    return [index for one in failed for index in recipients.from_text(one.rcpt)]
