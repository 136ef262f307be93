"""One client's connection: bytes, timeouts and TLS around the session, which does the talking.

What:     all bytes go to our session; what it says is written and all its deeds are carried out here. STARTTLS is
          aiosmtpd's; nothing of its own conversation runs.
Promise:  a commit under way is waited for, whatever clocks and clients do. What a client may make us keep is bounded:
          while it is not its turn, or it does not read, nothing more is read from it.
On crash: connections are gone, clients send again; what had its 250 is durable.
Callers:  intake.smtpd, one for each connection; intake.local builds upon it.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import IntFlag
from typing import TYPE_CHECKING, Any, AnyStr

from aiosmtpd.smtp import SMTP, TLSSetupException

from kmq.intake import deeds
from kmq.intake.door import LargeBody
from kmq.intake.patience import Patience
from kmq.intake.session import Session
from kmq.intake.transports import handshake_trouble, tls_name, unread
from kmq.log import accepted, mail
from kmq.model.reply import Reply

if TYPE_CHECKING:
    from kmq.intake.smtpd import Smtpd

WRITE_LIMIT = 64 * 1024  #: bytes of replies that a client may leave unread before it is read no further
LINGER = 2.0  #: seconds for a client to read our last word
LINGER_BYTES = 1 << 20  #: what it may send meanwhile


class Brake(IntFlag):
    """Why a client is not read from."""

    ANSWER = 1  #: it sent more while the door's answer was due
    READER = 2  #: it does not read our replies
    ROOM = 4  #: the disk is behind


_NO_BRAKE = Brake(0)


class Carrier(asyncio.Protocol):
    """One connection. It has what `SMTP.smtp_STARTTLS` needs; to be such an SMTP would cost 100 µs each."""

    def __init__(self, smtpd: "Smtpd", loop: asyncio.AbstractEventLoop) -> None:
        self._smtpd = smtpd
        self._session: Session | None = None
        self.key = ""
        self._large: LargeBody | None = None
        self._queue: list[deeds.AnyDeed] = []
        self._performing = False
        self._brakes = _NO_BRAKE
        self._half_closed = False
        self._lost = False
        self._section = smtpd.rules.section
        self._patience: Patience | None = None
        self._received = 0
        self._drained = 0
        self._closing_since: float | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._tls_name: str | None = None
        # What smtp_STARTTLS needs.
        self.loop = loop
        self.tls_context = smtpd.tls_context
        self.transport: Any = None
        self._tls_protocol: Any = None
        self._original_transport: Any = None

    # --- what the loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._session is not None:  # again, as STARTTLS is through
            self._brakes = _NO_BRAKE  # they were the clear transport's
            self._tls_name = tls_name(transport)
            transport.set_write_buffer_limits(high=WRITE_LIMIT)
            return self._carry_out(self._session.secured())
        client = self._smtpd.recognize(transport)
        self.key = client.key
        refusal = self._smtpd.admit(self, client)
        if refusal:
            transport.write(refusal)
            transport.close()
            return None
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self._session = self._smtpd.session(client)
        return self._carry_out(self._session.greet(unread(transport)))

    def data_received(self, read: bytes) -> None:
        session = self._session
        self._received += len(read)
        if session is None or session.closed:
            return self._drain(len(read))
        if session.waiting:
            self._brake(Brake.ANSWER)
        said, found = session.receive(read)  # what `_carry_out` does, without a call more for each command
        if said:
            self.transport.write(said)
        if found:
            self._perform(found)
        return None

    def eof_received(self) -> bool:
        """The client will send nothing more. Whoever waits for an answer gets it, where the transport can do that."""
        session = self._session
        self._half_closed = session is not None and session.waiting and self._tls_protocol is None
        return self._half_closed

    def connection_lost(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        if self._session is not None:
            if not self._session.closed:
                self._carry_out(self._session.gone())
            self._smtpd.dismiss(self)
        if self._original_transport is not None:
            self._original_transport.close()
        self.transport = None

    def pause_writing(self) -> None:
        self._brake(Brake.READER)

    def resume_writing(self) -> None:
        self._release(Brake.READER)

    # --- deeds ----------------------------------------------------------------------------------------------------

    def _carry_out(self, turn: deeds.Turn) -> None:
        said, found = turn
        if said and self.transport is not None:
            self.transport.write(said)
        if found:
            self._perform(found)

    def _perform(self, found: Sequence[deeds.AnyDeed]) -> None:
        """Carries deeds out in order; a door that answers at once has its answer's deeds put behind them."""
        queue = self._queue
        queue += found
        if self._performing:
            return
        self._performing = True
        try:
            for deed in queue:
                DEEDS[type(deed)](self, deed)
        finally:
            self._performing = False
            queue.clear()

    def _put(self, deed: deeds.Put) -> None:
        self._smtpd.door.put(deed.raw, deed.tail, deed.count, deed.stamp, self._answered)

    def _reserve(self, deed: deeds.Reserve) -> None:
        self._smtpd.door.reserve(self._answered)

    def _etrn(self, deed: deeds.Etrn) -> None:
        self._smtpd.door.etrn(deed.node, self._answered)

    def _open(self, deed: deeds.Open) -> None:
        self._large = self._smtpd.door.open_large(self._has_room)

    def _write(self, deed: deeds.Write) -> None:
        if self._large is not None and not self._large.write(deed.piece):
            self._brake(Brake.ROOM)

    def _put_large(self, deed: deeds.PutLarge) -> None:
        large, self._large = self._large, None
        assert large is not None
        self._smtpd.door.put_large(deed.queue_id, deed.tail, deed.count, deed.sha256, large, self._answered)

    def _discard(self, deed: deeds.Discard) -> None:
        large, self._large = self._large, None
        if large is not None:
            large.discard()

    def _note(self, deed: deeds.Note) -> None:
        self._smtpd.counts[deed.event] += 1
        mail.tell(deed.event, "", deed.keys, tls=self._tls_name)

    def _note_accepted(self, deed: deeds.NoteAccepted) -> None:
        self._smtpd.counts["accepted"] += 1
        accepted.tell(deed.queue_id, deed.message, self._tls_name)

    def _pause(self, deed: deeds.Pause) -> None:
        self.loop.call_later(deed.seconds, self._rested, self._session)

    def _start_tls(self, deed: deeds.StartTls) -> None:
        # Nothing is read before the TLS layer is there to read it: not even the first bytes of the handshake.
        self.transport.pause_reading()
        self._handshake = self.loop.create_task(self._secure())

    def _close(self, deed: deeds.Close) -> None:
        self._closing_since = self._smtpd.now
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if not deed.unread or not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
            self._release(self._brakes)
        except OSError:  # the client has reset the connection, and we shall hear of it
            transport.abort()

    # --- the door's answers ---------------------------------------------------------------------------------------

    def _answered(self, queue_id: str, reply: Reply | None) -> None:
        session = self._session
        assert session is not None
        try:
            self._carry_out(session.answered(queue_id, reply))
        except Exception:
            if self.transport is not None:
                self.transport.abort()  # nobody would answer: better no connection than a silent one
            raise
        if self._brakes or self._half_closed:
            self._go_on(session)

    def _rested(self, session: Session | None) -> None:
        if session is not None and not self._lost:
            self._carry_out(session.rested())
            self._go_on(session)

    def _go_on(self, session: Session) -> None:
        """It is the client's turn again, unless it is not."""
        if not session.waiting:
            self._release(Brake.ANSWER)
            if self._half_closed and self.transport is not None:
                self.transport.close()

    def _has_room(self) -> None:
        self._release(Brake.ROOM)

    # --- flow -----------------------------------------------------------------------------------------------------

    def _brake(self, why: Brake) -> None:
        if not self._brakes and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._brakes |= why

    def _release(self, why: Brake) -> None:
        if not self._brakes & why:
            return
        self._brakes &= ~why
        if not self._brakes and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _drain(self, length: int) -> None:
        """Our last word is said; what the client sends on is thrown away, that it may read it."""
        self._drained += length
        if self._drained > LINGER_BYTES and self.transport is not None:
            self.transport.abort()

    # --- STARTTLS -------------------------------------------------------------------------------------------------

    async def _secure(self) -> None:
        try:
            await SMTP.smtp_STARTTLS(self, "")
        except (TLSSetupException, OSError) as error:
            mail.tell("tls-failed", client=self.key, reason=handshake_trouble(error.__cause__ or error))
        if self.transport is not None and not self._is_secure():
            self._original_transport.abort()
            self.connection_lost(None)  # the TLS layer tells nobody of a connection that it never made

    def _is_secure(self) -> bool:
        return self._session is not None and self._session.secure

    async def push(self, status: AnyStr) -> None:
        """STARTTLS's own 220: ours is on its way. From here to the TLS layer it does not come back to the loop."""
        self.transport.resume_reading()

    # --- time -----------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Once a second: is this one too slow?"""
        session = self._session
        if session is None:
            return
        if self._closing_since is None:
            patience = self._patience = self._patience or Patience(self._section, now)
            patience.received = self._received
            if patience.is_over(session, now, bool(self._brakes & Brake.ROOM)):
                self._carry_out(session.timed_out())
        elif now - self._closing_since > LINGER:
            self.abort()

    def stop(self) -> None:
        if self._session is not None:
            self._carry_out(self._session.stop())

    def expel(self) -> None:
        if self._session is not None:
            self._carry_out(self._session.expelled())

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


#: Who carries out what.
DEEDS: dict[type, Callable[[Carrier, Any], None]] = {
    deeds.Put: Carrier._put,
    deeds.Reserve: Carrier._reserve,
    deeds.Etrn: Carrier._etrn,
    deeds.Open: Carrier._open,
    deeds.Write: Carrier._write,
    deeds.PutLarge: Carrier._put_large,
    deeds.Discard: Carrier._discard,
    deeds.Pause: Carrier._pause,
    deeds.StartTls: Carrier._start_tls,
    deeds.Note: Carrier._note,
    deeds.NoteAccepted: Carrier._note_accepted,
    deeds.Close: Carrier._close,
}
