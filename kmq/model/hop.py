"""The next hop: the key of a delivery queue (Exchange's NextHopSolutionKey).

As text it is `DeliveryType;domain;connector`, short enough to stand in every assignment and envelope line; the
connector is named there, and has a GUID besides (run.identities).
"""

from enum import Enum
from functools import lru_cache
from typing import NamedTuple


class NextHopCategory(Enum):
    """Whether the next hop is in this organization."""

    INTERNAL = "Internal"
    EXTERNAL = "External"


class DeliveryType(Enum):
    """How a queue is delivered; all names of Exchange Server. The first eight are those that kmq's queues have."""

    UNDEFINED = "Undefined"  #: the submission and the poison queue
    UNREACHABLE = "Unreachable"  #: no connector serves the recipient
    MAILBOX = "SmtpDeliveryToMailbox"  #: a mailbox of this machine
    SMART_HOST = "SmartHostConnectorDelivery"  #: one of the connector's hosts
    DNS = "DnsConnectorDelivery"  #: the hosts that the domain's MX records name
    SHADOW = "ShadowRedundancy"  #: copies of what another server is delivering
    DELIVERY_AGENT = "DeliveryAgent"  #: a program of the connector
    NON_SMTP = "NonSmtpGatewayDelivery"  #: files for a gateway; also what is discarded or refused
    HEARTBEAT = "Heartbeat"
    MAPI = "MapiDelivery"
    EXO = "SmtpDeliveryToExo"
    CONNECTOR_SOURCE_SERVERS = "SmtpRelayToConnectorSourceServers"
    DAG = "SmtpRelayToDag"
    MAILBOX_DELIVERY_GROUP = "SmtpRelayToMailboxDeliveryGroup"
    REMOTE_SITE = "SmtpRelayToRemoteActiveDirectorySite"
    REMOTE_FOREST = "SmtpRelayToRemoteForest"
    SERVERS = "SmtpRelayToServers"
    TI_RG = "SmtpRelayToTiRg"
    WITHIN_SITE = "SmtpRelayWithinAdSite"
    WITHIN_SITE_TO_EDGE = "SmtpRelayWithinAdSiteToEdge"

    __hash__ = object.__hash__  # members are single; Enum's own hash is a call for each look at a next hop

    @property
    def category(self) -> str | None:
        """Internal or External; None for the types that are reserved or of old versions."""
        if self in AWAY:
            return NextHopCategory.EXTERNAL.value
        return None if self in _WITHOUT_CATEGORY else NextHopCategory.INTERNAL.value


#: The types whose queue is the whole connector's, and bears its name.
WHOLE = frozenset({DeliveryType.DELIVERY_AGENT, DeliveryType.NON_SMTP})
#: To other servers.
SMTP = frozenset({DeliveryType.SMART_HOST, DeliveryType.DNS})
#: All that leave this machine by a connector, with its limits.
AWAY = SMTP | WHOLE
_WITHOUT_CATEGORY = frozenset(
    {
        DeliveryType.HEARTBEAT,
        DeliveryType.MAPI,
        DeliveryType.EXO,
        DeliveryType.REMOTE_FOREST,
        DeliveryType.TI_RG,
        DeliveryType.WITHIN_SITE,
    }
)

#: NextHopConnector where none is used.
NO_GUID = "00000000-0000-0000-0000-000000000000"


class SolutionKey(NamedTuple):
    """Exchange's NextHopSolutionKey: what tells delivery queues apart. connector: a GUID, zeros where none is used."""

    delivery_type: str
    domain: str
    connector: str


class NextHop(NamedTuple):
    """Where recipients go next. domain: queue name; connector: the connector's name, "" where none is used."""

    delivery_type: DeliveryType
    domain: str
    connector: str

    def __str__(self) -> str:
        return f"{self.delivery_type.value};{self.domain};{self.connector}"

    def key(self, guid: str) -> SolutionKey:
        """guid: of the connector."""
        return SolutionKey(self.delivery_type.value, self.domain, guid if self.connector else NO_GUID)

    @property
    def name(self) -> str:
        """What tables call the queue."""
        return self.domain

    def under(self, connector: str) -> "NextHop":
        """The same when its connector bears another name."""
        return NextHop(self.delivery_type, connector if self.delivery_type in WHOLE else self.domain, connector)


@lru_cache(maxsize=4096)
def parse(text: str) -> NextHop:
    """The next hop of its text; ValueError when it is none. Remembered: at a start it is asked for each message."""
    kind, domain, connector = text.split(";")
    return NextHop(DeliveryType(kind), domain, connector)


SUBMISSION = NextHop(DeliveryType.UNDEFINED, "Submission", "")
POISON = NextHop(DeliveryType.UNDEFINED, "Poison Message", "")
SHADOW = NextHop(DeliveryType.SHADOW, "Shadow", "")
UNREACHABLE = NextHop(DeliveryType.UNREACHABLE, "Unreachable Domain", "")
