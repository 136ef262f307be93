"""Whether a next hop, of a message that was routed some time ago, is one to which mail may still be routed.

Promise:  pure. What `table` routes to stands, under the same configuration; so nothing is routed anew for ever.
Callers:  the scheduler process, when the configuration changed.
"""

from kmq.config import Settings
from kmq.config.kinds import write_endpoint
from kmq.config.local_connector import LOCAL
from kmq.model.hop import DeliveryType, NextHop

#: The types of connectors that each way of delivery belongs to.
_TYPES = {
    DeliveryType.MAILBOX: LOCAL,
    DeliveryType.SMART_HOST: ("smarthost",),
    DeliveryType.DNS: ("dns",),
    DeliveryType.DELIVERY_AGENT: ("agent",),
    DeliveryType.NON_SMTP: ("foreign", "discard", "error"),
}


def stands(hop: NextHop, settings: Settings) -> bool:
    """False when its connector is gone, or disabled, or leads elsewhere by now, or its domain is not local any more.

    What has no connector always stands."""
    kinds = _TYPES.get(hop.delivery_type)
    if kinds is None:
        return True
    connector = next((one for one in settings.connectors if one.name == hop.connector), None)
    if connector is None or connector.type not in kinds or not connector.enabled:
        return False
    if hop.delivery_type is DeliveryType.MAILBOX:
        return hop.domain in settings.kmq.local_domains
    if hop.delivery_type is DeliveryType.SMART_HOST:
        return hop.domain == ",".join(write_endpoint(host, port) for host, port in connector.hosts)
    return True
