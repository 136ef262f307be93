"""Next hops: the delivery types of Exchange Server under their names, and the key of a queue."""

import pytest

from kmq.model import hop
from kmq.model.hop import NO_GUID, DeliveryType, NextHop

GUID = "4520e633-d83d-411a-bbe4-6a84648674ee"

#: As Exchange's table of delivery types has them; None where it says n/a.
CATEGORIES = {
    "DeliveryAgent": "External",
    "DnsConnectorDelivery": "External",
    "Heartbeat": None,
    "MapiDelivery": None,
    "NonSmtpGatewayDelivery": "External",
    "ShadowRedundancy": "Internal",
    "SmartHostConnectorDelivery": "External",
    "SmtpDeliveryToExo": None,
    "SmtpDeliveryToMailbox": "Internal",
    "SmtpRelayToConnectorSourceServers": "Internal",
    "SmtpRelayToDag": "Internal",
    "SmtpRelayToMailboxDeliveryGroup": "Internal",
    "SmtpRelayToRemoteActiveDirectorySite": "Internal",
    "SmtpRelayToRemoteForest": None,
    "SmtpRelayToServers": "Internal",
    "SmtpRelayToTiRg": None,
    "SmtpRelayWithinAdSite": None,
    "SmtpRelayWithinAdSiteToEdge": "Internal",
    "Undefined": "Internal",
    "Unreachable": "Internal",
}


def test_every_delivery_type_is_there_with_its_category() -> None:
    assert {one.value: one.category for one in DeliveryType} == CATEGORIES


def test_a_next_hop_comes_back_from_its_text() -> None:
    for kind in DeliveryType:
        one = NextHop(kind, "smtp.isp.example:587,[2001:db8::1]:25", "isp")
        assert hop.parse(str(one)) == one


@pytest.mark.parametrize("text", ["", "x", "Undefined;a", "NoSuchType;a;b", "Undefined;a;b;c"])
def test_what_is_no_next_hop_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        hop.parse(text)


def test_the_key_has_zeros_where_no_connector_is_used() -> None:
    assert NextHop(DeliveryType.DNS, "far.example", "world").key(GUID) == ("DnsConnectorDelivery", "far.example", GUID)
    for one, name in ((hop.SUBMISSION, "Submission"), (hop.UNREACHABLE, "Unreachable Domain")):
        assert one.key(GUID) == (one.delivery_type.value, name, NO_GUID)
    assert (hop.POISON.name, hop.SHADOW.name) == ("Poison Message", "Shadow")
