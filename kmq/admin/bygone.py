"""What the envelope of a message tells that is not in the queue any more: kept by the safety net, or archived.

Promise:  the same properties under the same names as those of a message that waits; values as they are compared.
Callers:  kept, archived.
"""

from kmq.spool.index_rows import HeaderRow, message_row
from kmq.spool.look import Found


def properties_of(found: Found, header: HeaderRow | None) -> dict[str, object]:
    """header: what its header says, None when nobody looked."""
    row = message_row(found)
    plain: dict[str, object] = {
        "Id": found.head.id,
        "Created": row.created,
        "FromAddress": row.sender,
        "Size": row.size,
        "Priority": row.priority,
        "Directionality": row.directionality,
        "MessageSourceName": row.source,
        "SourceIP": row.source_ip,
        "User": row.user,
        "Helo": row.helo,
        "OriginalFromAddress": row.original_from,
        "EnvelopeId": row.envelope_id,
    }
    if header is not None:
        plain |= {"Subject": header.subject, "InternetMessageId": header.message_id, "SCL": header.scl}
    return plain
