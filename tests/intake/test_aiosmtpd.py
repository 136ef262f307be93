"""What the carrier leans on in aiosmtpd 1.4.6, private names included: a release that changes it is noticed here."""

import ast
import asyncio
import inspect
import textwrap
from asyncio import sslproto
from importlib import metadata

import aiosmtpd.smtp
from aiosmtpd.smtp import SMTP, TLSSetupException

from kmq.intake.carrier import Carrier
from kmq.intake.smtpd import Smtpd
from tests.intake.doors import MemoryDoor, Routes, receiver


def attributes(function: object) -> set[str]:
    """The names that a method uses of `self`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def source_of(function: object) -> str:
    return textwrap.dedent(inspect.getsource(function))


def test_the_release_is_the_one_that_was_read():
    assert metadata.version("aiosmtpd") == "1.4.6"


def test_starttls_needs_what_the_carrier_has():
    assert attributes(SMTP.smtp_STARTTLS) == {
        "push",
        "tls_context",
        "loop",
        "_tls_protocol",
        "_original_transport",
        "transport",
    }
    carrier = Carrier(Smtpd(receiver(), "mx.us.test", Routes(), MemoryDoor()), asyncio.new_event_loop())
    assert attributes(SMTP.smtp_STARTTLS) <= {*vars(carrier), *dir(Carrier)}
    carrier.loop.close()


def test_between_its_220_and_the_tls_layer_starttls_does_not_wait():
    """The carrier's `push` lets reading begin, so that nothing may be read before set_protocol."""
    source = source_of(SMTP.smtp_STARTTLS)
    behind = source[source.index("await self.push('220 Ready to start TLS')") + 40 :]
    assert behind.index("set_protocol(self._tls_protocol)") < behind.index("await ")
    assert behind.index("_tls_protocol.connection_made") < behind.index("await ")


def test_the_tls_layer_comes_back_by_connection_made():
    assert issubclass(TLSSetupException, Exception)
    assert "_app_transport" in source_of(SMTP.smtp_STARTTLS)
    assert "server_side=True" in source_of(SMTP.smtp_STARTTLS)


def test_the_tls_layer_s_buffer_has_the_size_that_the_class_names():
    assert "bytearray(self.max_size)" in source_of(sslproto.SSLProtocol.__init__)
    assert "sslproto.SSLProtocol(" in source_of(SMTP.smtp_STARTTLS)


def test_all_that_the_loop_calls_is_the_carrier_s_own():
    """No method of the base may see a connection, but STARTTLS."""
    called = {"connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing"}
    assert called <= set(vars(Carrier))
    assert "smtp_STARTTLS" not in vars(Carrier)


def test_the_base_s_state_for_all_sessions_is_not_touched():
    before = dict(SMTP.command_size_limits)
    Carrier(Smtpd(receiver(), "mx.us.test", Routes(), MemoryDoor()), asyncio.new_event_loop()).loop.close()
    assert dict(aiosmtpd.smtp.SMTP.command_size_limits) == before
