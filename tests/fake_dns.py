"""A resolver on loopback, UDP and TCP, whose faults are chosen by name: tests ask it what the world might answer."""

import asyncio
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from tests.beside import served

RCODES = {"servfail": dns.rcode.SERVFAIL, "refused": dns.rcode.REFUSED, "formerr": dns.rcode.FORMERR}


@dataclass
class FakeDNS:
    """zone: `name` -> records as text (`MX 10 mx.example.`, `A 127.0.0.1`, `CNAME other.`); a name that is not in it
    does not exist. faults: `name` or `name/TYPE` or "*" -> what goes wrong:

    servfail, refused, formerr: that code; timeout: no answer; garbage: bytes that are no answer; truncated: no whole
    answer by UDP, and TCP is closed; cut: no whole answer by UDP, TCP works; slow: an answer after `delay` seconds;
    no-edns: FORMERR as long as the question has EDNS.
    """

    zone: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    delay: float = 0.5
    ttl: int = 300
    host: str = "127.0.0.1"
    port: int = 0
    #: `name/TYPE` -> how often it was asked, by UDP and TCP together
    asked: Counter[str] = field(default_factory=Counter)
    by_tcp: int = 0
    _udp: asyncio.DatagramTransport | None = None
    _tcp: asyncio.Server | None = None

    async def start(self) -> "FakeDNS":
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._stream, self.host, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (self.host, self.port))
        self._udp = cast(asyncio.DatagramTransport, udp)
        return self

    async def stop(self) -> None:
        if self._udp is not None and self._tcp is not None:
            self._udp.close()
            self._tcp.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> "FakeDNS":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def threaded(self) -> AbstractContextManager["FakeDNS"]:
        """The resolver in a thread with a loop of its own, for tests that run whole processes."""
        return served(self)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    # --- what is answered --------------------------------------------------------------------------------------------

    def fault(self, name: str, kind: str) -> str:
        for key in (f"{name}/{kind}", name, "*"):
            if key in self.faults:
                return self.faults[key]
        return ""

    def answer(self, data: bytes, tcp: bool) -> tuple[bytes, float]:
        """The bytes of an answer (b"" for none) and after how many seconds they go out."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[f"{name}/{kind}"] += 1
        self.by_tcp += tcp
        fault = self.fault(name, kind)
        if fault == "timeout":
            return b"", 0
        if fault == "garbage":
            return data[:2] + b"\x80\x00garbage", 0
        if fault == "no-edns":
            fault = "formerr" if query.edns >= 0 else ""
        response = dns.message.make_response(query, recursion_available=True)
        if fault in RCODES:
            response.set_rcode(RCODES[fault])
        elif not tcp and fault in ("truncated", "cut"):
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question.name, question.rdtype)
        if tcp or len(response.to_wire(max_size=65535)) <= (query.payload if query.edns >= 0 else 512):
            return response.to_wire(max_size=65535), self.delay if fault == "slow" else 0
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=65535), 0

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        seen: set[dns.name.Name] = set()
        while True:
            records = self.zone.get(name.to_text(omit_final_dot=True).lower())
            if records is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            texts = [one.split(" ", 1) for one in records]
            found = [text for what, text in texts if what == dns.rdatatype.to_text(kind)]
            alias = [text for what, text in texts if what == "CNAME"]
            if found:
                response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", kind, *found))
                return
            if not alias:
                break
            response.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CNAME", alias[0]))
            if name in seen:
                return
            seen.add(name)
            name = dns.name.from_text(alias[0])
        soa = f"ns.test. root.test. 1 3600 600 86400 {self.ttl}"
        response.authority.append(dns.rrset.from_text("test.", self.ttl, "IN", "SOA", soa))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(length)
            question = dns.message.from_wire(data).question[0]
            name = question.name.to_text(omit_final_dot=True).lower()
            if self.fault(name, dns.rdatatype.to_text(question.rdtype)) != "truncated":
                wire, delay = self.answer(data, tcp=True)
                await asyncio.sleep(delay)
                writer.write(len(wire).to_bytes(2, "big") + wire)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: FakeDNS) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        wire, delay = self.server.answer(data, tcp=False)
        if not wire:
            return
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, wire, client)
        else:
            self._send(wire, client)

    def _send(self, wire: bytes, client: tuple[str, int]) -> None:
        if not self.transport.is_closing():
            self.transport.sendto(wire, client)
