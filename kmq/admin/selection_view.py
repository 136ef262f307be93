"""The view `messages`: a row per message and queue, its columns named as Exchange names its properties.

What:     joins what the index keeps with what only this moment tells: the states of queues, what is in hand, the time.
          These are put into temporary tables, which are the asking connection's own. Times are Unix times, NULL for
          none; spans are seconds.
Law:      the statuses and what they mean for the next attempt stand here, once, for lists, filters, orders and SQL. A
          test holds them against admin/listing, which tells of one message.
Callers:  selection, selection_sql.
"""

import sqlite3
from collections.abc import Iterator

from kmq.admin.circumstances import HOURS, Circumstances, QueueState
from kmq.admin.listing import is_meant, no_connector
from kmq.config import Settings
from kmq.model import queue_id
from kmq.run.schedule import schedules_of
from kmq.spool.index_rows import mid_of, next_hop, number_of

_TABLES = """
CREATE TEMP TABLE moment (now REAL);
CREATE TEMP TABLE queue (
    n INTEGER PRIMARY KEY, hop TEXT, name TEXT, queue TEXT, delivery_type TEXT, category TEXT, connector TEXT,
    status TEXT, next_retry REAL, last_error TEXT, urgent_lifetime REAL, lifetime REAL, patient_lifetime REAL,
    shut TEXT
);
CREATE TEMP TABLE hand (mid INTEGER PRIMARY KEY, phase TEXT);
CREATE TEMP TABLE known (mid INTEGER, hop TEXT, status TEXT, PRIMARY KEY (mid, hop)) WITHOUT ROWID;
"""

_STATUS = """CASE
    WHEN m.damaged THEN 'Damaged'
    WHEN m.home = 'poison' THEN 'Suspended'
    WHEN s.recipient_count = 0 THEN 'Terminating'
    WHEN k.status IN ('Active', 'PendingSuspend', 'PendingRemove') THEN k.status
    WHEN a.mid IS NOT NULL AND k.status IS NULL THEN
        CASE WHEN s.removing THEN 'PendingRemove' WHEN s.held THEN 'PendingSuspend' ELSE 'Active' END
    WHEN s.removing THEN 'PendingRemove'
    WHEN s.held THEN 'Suspended'
    WHEN q.status = 'Suspended' OR q.delivery_type = 'Unreachable' OR q.shut != '' THEN 'Ready'
    WHEN q.status = 'Retry' OR s.until > (SELECT now FROM moment) THEN 'Retry'
    ELSE 'Ready' END"""

_NEXT = f"""CASE {_STATUS} WHEN 'Retry' THEN
    CASE WHEN q.status = 'Retry' THEN max(q.next_retry, s.until) ELSE s.until END
WHEN 'Ready' THEN
    CASE q.shut WHEN 'scheduled' THEN q.next_retry WHEN 'out-of-hours' THEN max(q.next_retry, s.until) END END"""

_ERROR = f"""CASE
    WHEN q.delivery_type = 'Unreachable' AND {_STATUS} = 'Ready' AND q.status != 'Suspended'
        THEN no_connector(s.addresses)
    WHEN q.status = 'Retry' AND {_STATUS} = 'Retry' AND q.last_error != '' THEN q.last_error
    ELSE s.last_error END"""

_VIEW = f"""
CREATE TEMP VIEW messages AS SELECT
    s.mid AS mid, q.n AS queue_n, q.hop AS NextHop, iif(q.shut = 'on-demand', q.shut, q.status) AS QueueStatus,
    s.recipients AS RecipientList,
    q.queue || '\\' || queue_id(s.mid) AS Identity,
    queue_id(s.mid) AS Id,
    q.queue AS Queue,
    {_STATUS} AS Status,
    m.sender AS FromAddress,
    s.addresses AS Recipients,
    s.recipient_count AS RecipientCount,
    m.size AS Size,
    m.subject AS Subject,
    m.created AS Created,
    s.entered AS DateReceived,
    {_NEXT} AS NextRetryTime,
    {_ERROR} AS LastError,
    s.retry_count AS RetryCount,
    m.created + CASE WHEN m.home = 'queue' THEN CASE m.priority
        WHEN 'High' THEN q.urgent_lifetime WHEN 'Low' THEN q.patient_lifetime ELSE q.lifetime END END AS ExpirationTime,
    max(0.0, s.entered - m.created) AS MessageLatency,
    CASE WHEN s.deferred THEN 'Transient Failure' ELSE 'None' END AS DeferReason,
    m.priority AS Priority,
    q.delivery_type AS DeliveryType,
    q.name AS NextHopDomain,
    q.connector AS NextHopConnector,
    q.category AS NextHopCategory,
    m.directionality AS Directionality,
    m.source AS MessageSourceName,
    m.source_ip AS SourceIP,
    m.user AS User,
    m.helo AS Helo,
    m.message_id AS InternetMessageId,
    m.original_from AS OriginalFromAddress,
    m.envelope_id AS EnvelopeId,
    m.scl AS SCL,
    s.held_by AS HeldBy,
    a.phase AS Phase
FROM share s CROSS JOIN message m ON m.mid = s.mid CROSS JOIN temp.queue q ON q.n = s.hop
LEFT JOIN hand a ON a.mid = s.mid LEFT JOIN known k ON k.mid = s.mid AND k.hop = q.hop;
"""

_NOTHING_KNOWN = QueueState()


def spread(connection: sqlite3.Connection, settings: Settings, around: Circumstances) -> None:
    """Makes the view for this connection. What is read through it is of one moment, until the transaction that begins
    here is ended: else a queue that is new, or gone, between two statements would hide messages."""
    connection.create_function("queue_id", 1, _id_of, deterministic=True)
    connection.create_function("no_connector", 1, _unserved, deterministic=True)
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.executescript(_TABLES + _VIEW)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO moment VALUES (?)", (around.now,))
    connection.executemany(
        f"INSERT INTO temp.queue VALUES ({', '.join('?' * 14)})", _queues(connection, settings, around)
    )
    in_hand = [(mid_of(queue_id.parse(name)), hand.status) for name, hand in around.in_hand.items() if _is_id(name)]
    connection.executemany("INSERT OR REPLACE INTO hand VALUES (?, ?)", in_hand)
    known = [
        (mid_of(queue_id.parse(name)), hop, status) for (name, hop), status in around.statuses.items() if _is_id(name)
    ]
    connection.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?)", known)


def _queues(connection: sqlite3.Connection, settings: Settings, around: Circumstances) -> Iterator[tuple[object, ...]]:
    schedules = schedules_of(settings)
    for number, text in connection.execute("SELECT n, hop FROM main.hop"):
        where = next_hop(text)
        state = around.queues.get(text, _NOTHING_KNOWN)
        category = where.delivery_type.category
        yield (
            *(number, text, where.name, f"{around.server}\\{where.name}", where.delivery_type.value, category),
            *(where.connector, state.status, state.next_retry, state.last_error),
            *(schedule.lifetime for schedule in schedules.each(where.connector)),
            state.waits_for if state.waits_for in HOURS else "",
        )


def _unserved(addresses: str) -> str:
    return no_connector(addresses.split("\n"))


def _id_of(mid: int) -> str:
    return queue_id.text(number_of(mid))


def _is_id(name: str) -> bool:
    return queue_id.PATTERN.fullmatch(name) is not None


def named(connection: sqlite3.Connection, name: str) -> list[int]:
    """The queues, by their numbers in this connection, that an operator means by a name or the text of a next hop."""
    found = connection.execute("SELECT n, hop FROM temp.queue")
    return [number for number, text in found if is_meant(next_hop(text), name) or text == name]
