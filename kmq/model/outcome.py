"""What a verb of an operator answers about each message, or about its part in one queue.

Promise:  values only.
Callers:  the scheduler process, which answers; whoever reads the answer.
"""

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
