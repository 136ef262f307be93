"""A day's mail for people, and for programs.

Callers:  kmq.cli.report.
"""

from collections.abc import Iterator, Mapping

from kmq.admin.report import STAGES, Report, Top
from kmq.view.table import BOLD, PLAIN, Column, Page, Row, table
from kmq.view.words import counted, harmless, local_time, volume

#: Names of each kind that are shown.
SHOWN = 10


def report(found: Report, queued: int | None, page: Page, limit: int = SHOWN) -> Iterator[str]:
    """The whole report. queued: messages in the queue now, None when that is not known."""
    yield _title(f"Mail from {local_time(found.since)} to {local_time(found.until)}", page)
    yield ""
    yield from table(
        (Column("What"), Column("Count", right=True), Column("")), [Row(cells) for cells in _sums(found, queued)], page
    )
    if found.delay.share(0.5) is not None:
        yield ""
        yield from table(
            (Column("Delay of what was delivered"), Column("Median s", right=True), Column("95 % below s", right=True)),
            [Row(cells) for cells in _delays(found)],
            page,
        )
    for title, top, what, sized in _tops(found):
        if len(top):
            yield ""
            yield from _top(title, top, what, sized, page, limit)


def _title(text: str, page: Page) -> str:
    return f"{BOLD}{text}{PLAIN}" if page.colours else text


def _sums(found: Report, queued: int | None) -> Iterator[tuple[str, str, str]]:
    yield (
        "received",
        f"{found.received:,}",
        f"{volume(found.received_bytes)} for {counted(found.received_recipients, 'recipient')}",
    )
    if found.made:
        yield "made here", f"{found.made:,}", "messages, by aliases, rules, filters and the archive"
    yield "refused", f"{found.refused:,}", ""
    yield "delivered", f"{found.delivered:,}", f"{volume(found.delivered_bytes)}, counted by recipient"
    yield "deferred", f"{found.deferrals:,}", "attempts that are made again"
    yield "failed", f"{found.failed:,}", "recipients"
    yield "expired", f"{found.expired:,}", "recipients whose time was up"
    if found.discarded:
        yield "discarded", f"{found.discarded:,}", "recipients, dropped or redirected by rules and scanners"
    if found.held:
        yield "held", f"{found.held:,}", "recipients, by rules and scanners, until somebody decides"
    yield "notices", f"{found.notices:,}", "reports to senders"
    if found.delayed:
        yield "delay warnings", f"{found.delayed:,}", "recipients"
    if found.removed:
        yield "removed", f"{found.removed:,}", "messages, by operators"
    if found.poison:
        yield "set aside", f"{found.poison:,}", "messages in poison/"
    yield "not ended", f"{found.open:,}", "messages that came in this time, and had not left by its end"
    if queued is not None:
        yield "in the queue", f"{queued:,}", "messages, now"


def _delays(found: Report) -> Iterator[tuple[str, str, str]]:
    for name, spread in (("in all", found.delay), *zip(STAGES, found.stages, strict=True)):
        median, most = spread.share(0.5), spread.share(0.95)
        if median is not None and most is not None:
            yield _STAGES.get(name, name), f"{median:.3f}", f"{most:.3f}"


_STAGES = {
    "before": "until it was queued",
    "queue": "in the queue",
    "connecting": "until a connection was there",
    "transmission": "transmission",
}


def _tops(found: Report) -> Iterator[tuple[str, Top, str, bool]]:
    yield "Senders", found.senders, "Messages", True
    yield "Recipients", found.recipients, "Messages", True
    yield "Relays", found.relays, "Deliveries", True
    yield "Clients", found.clients, "Messages", False
    yield "Refused", found.refusals, "Times", False
    yield "Deferred", found.deferral_reasons, "Times", False
    yield "Failed", found.failure_reasons, "Times", False
    yield "Out of reach", found.unavailable, "Times", False


def _top(title: str, top: Top, what: str, sized: bool, page: Page, limit: int) -> Iterator[str]:
    columns = [Column(what, right=True)]
    if sized:
        columns.append(Column("Volume", right=True))
    columns.append(Column(title, elastic=True))
    rows = []
    for name, count, size in top.most(limit):
        cells = [f"{count:,}", *([volume(size)] if sized else []), harmless(name) or "<>"]
        rows.append(Row(cells))
    yield from table(columns, rows, page)
    if len(top) > limit:
        yield f"  ... and {len(top) - limit:,}{' or more' if top.forgotten else ''} others"


def properties(found: Report, queued: int | None, limit: int = SHOWN) -> Mapping[str, object]:
    """The same as one object; times in UTC, durations in seconds."""
    from kmq.model.moment import as_text

    return {
        "Since": as_text(found.since),
        "Until": as_text(found.until),
        "Received": found.received,
        "ReceivedBytes": found.received_bytes,
        "ReceivedRecipients": found.received_recipients,
        "Made": found.made,
        "Refused": found.refused,
        "Delivered": found.delivered,
        "DeliveredBytes": found.delivered_bytes,
        "Deferred": found.deferrals,
        "Failed": found.failed,
        "Expired": found.expired,
        "Discarded": found.discarded,
        "Held": found.held,
        "DelayWarnings": found.delayed,
        "Notices": found.notices,
        "Removed": found.removed,
        "Poison": found.poison,
        "NotEnded": found.open,
        "Queued": queued,
        "Delay": {name: {"Median": _rounded(one.share(0.5)), "P95": _rounded(one.share(0.95))} for name, one in (
            ("all", found.delay), *zip(STAGES, found.stages, strict=True))},
        **{title.replace(" ", ""): [{"Name": name, "Count": count, "Bytes": size} if sized else
            {"Name": name, "Count": count} for name, count, size in top.most(limit)]
            for title, top, _, sized in _tops_by_name(found)},
    }  # fmt: skip


def _tops_by_name(found: Report) -> Iterator[tuple[str, Top, str, bool]]:
    names = {"Refused": "Refusals", "Deferred": "Deferrals", "Failed": "Failures", "Out of reach": "Unavailable"}
    for title, top, what, sized in _tops(found):
        yield names.get(title, title), top, what, sized


def _rounded(duration: float | None) -> float | None:
    return None if duration is None else round(duration, 3)
