"""The next hop: the key of a delivery queue (Exchange's NextHopSolutionKey).

As text it is `DeliveryType;domain;connector`, short enough to stand in every assignment and envelope line.
"""

from enum import Enum
from typing import NamedTuple


class DeliveryType(Enum):
    """How a queue is delivered; names as in Exchange Server."""

    UNDEFINED = "Undefined"  #: the submission and the poison queue
    UNREACHABLE = "Unreachable"  #: no connector serves the recipient
    MAILBOX = "SmtpDeliveryToMailbox"  #: a mailbox of this machine
    SMART_HOST = "SmartHostConnectorDelivery"  #: one of the connector's hosts
    DNS = "DnsConnectorDelivery"  #: the hosts that the domain's MX records name


class NextHop(NamedTuple):
    """Where recipients go next. domain: queue name; connector: the connector's name, "" where none is used."""

    delivery_type: DeliveryType
    domain: str
    connector: str

    def __str__(self) -> str:
        return f"{self.delivery_type.value};{self.domain};{self.connector}"

    @property
    def name(self) -> str:
        """What tables call the queue."""
        return self.domain


def parse(text: str) -> NextHop:
    """The next hop of its text; ValueError when it is none."""
    kind, domain, connector = text.split(";")
    return NextHop(DeliveryType(kind), domain, connector)


SUBMISSION = NextHop(DeliveryType.UNDEFINED, "Submission", "")
POISON = NextHop(DeliveryType.UNDEFINED, "Poison Message", "")
UNREACHABLE = NextHop(DeliveryType.UNREACHABLE, "Unreachable Domain", "")
