"""What a verb of an operator answers: at its end, and about each message, or its part in one queue.

Promise:  values only.
Callers:  the scheduler process, which answers; whoever reads the answer.
"""

#: Exit statuses of an answer: done; nothing matched or refused; wrong usage; not now.
DONE, REFUSED, USAGE, NOT_NOW = 0, 1, 2, 75

#: Somebody has it in hand, it comes about when that ended; it is not there (any more), or nobody of it waits for that
#: next hop; it is there, and nothing was done, for a reason that is told.
PENDING, GONE, SKIPPED = "pending", "gone", "skipped"

#: Verb -> the word for what is done; the three above may come instead.
RESULTS: dict[str, str] = {
    "retry": "retried",
    "remove": "removed",
    "suspend": "suspended",
    "resume": "resumed",
    "resubmit": "resubmitted",
    "redirect": "redirected",
    "export": "exported",
    "replay": "replayed",
}
