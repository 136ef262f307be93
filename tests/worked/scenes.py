"""The scenes in which worked examples play: each a kmqd, with the mail that the documents speak of (`stage`)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from smtplib import SMTPRecipientsRefused

from tests.certificates import Authority
from tests.fake_dns import FakeDNS
from tests.fakes import EvilHop
from tests.waiting import until
from tests.worked.stage import CONFIGURATION, SECONDS, Scene

LOGGED = CONFIGURATION.replace("workers = 1\n", "workers = 1\nmail_log = /var/log/kmq.log\n")


def partner(scene: Scene) -> EvilHop:
    """The server of partner.example: it knows everybody but `nobody`."""
    return EvilHop(
        port=scene.hop,
        banner="220 mail.partner.example ESMTP",
        refusals={"nobody@partner.example": "550 5.1.1 <nobody@partner.example>: there is nobody of this name"},
    )


def world(scene: Scene) -> FakeDNS:
    """The resolver: it knows us and far.example, and asks nobody."""
    zone = {
        "mx.example.org": ["A 192.0.2.25"],
        "example.org": ["MX 10 mx.example.org."],
        "far.example": ["MX 10 mx.far.example."],
        "mx.far.example": ["A 127.0.0.1"],
    }
    return FakeDNS(zone=zone, port=scene.dns)


@contextmanager
def stopped(folder: Path) -> Iterator[Scene]:
    """kmqd does not run; it is configured."""
    scene = Scene(folder)
    try:
        yield scene
    finally:
        scene.unit.stop()


@contextmanager
def quiet(folder: Path) -> Iterator[Scene]:
    """kmqd runs, and its queue is empty."""
    with stopped(folder) as scene, world(scene).threaded():
        scene.unit.start()
        yield scene


@contextmanager
def busy(folder: Path) -> Iterator[Scene]:
    """1 waits for partner.example, whose server is down; 2 has nowhere to go; 3, for partner.example too, is held."""
    with quiet(folder) as scene:
        scene.send("carol@partner.example", "Offer")
        scene.until_mailq(lambda queue: queue and queue[0].get("LastError"), "the first one was tried")
        scene.send("dave@nowhere.example", "Greetings")
        scene.send("erin@partner.example", "Bill", sender="bob@example.org")
        scene.until_mailq(lambda queue: len(queue) == 3, "three messages wait")
        scene.run(f"kmq suspend {SECONDS}-00000003 --reason 'the bill is wrong'")
        scene.until_mailq(lambda queue: all(one["Status"] != "Active" for one in queue), "nothing moves")
        until(lambda: "3 messages" in scene.unit.status, "systemd knows")
        yield scene


@contextmanager
def logged(folder: Path) -> Iterator[Scene]:
    """Mail has a log of its own; 1 was delivered to partner.example, 2 refused there, and 3 tells Alice so. Mail for
    Dora was refused here."""
    with ExitStack() as stack:
        scene = stack.enter_context(stopped(folder))
        stack.enter_context(partner(scene).threaded())
        scene.configure(LOGGED)
        scene.unit.start()
        scene.send("carol@partner.example", "Offer")
        scene.send("nobody@partner.example", "Bill")
        until(lambda: scene.run("grep -c ' delivered ' /var/log/kmq.log") == ["2"], "the notice is delivered")
        with suppress(SMTPRecipientsRefused):
            scene.send("dora@example.org", "Lunch", sender="eve@far.example")
        yield scene


@contextmanager
def kept(folder: Path) -> Iterator[Scene]:
    """Delivered mail is kept for two days: 1 and 2 went to partner.example, 3 into a mailbox here."""
    with ExitStack() as stack:
        scene = stack.enter_context(stopped(folder))
        stack.enter_context(partner(scene).threaded())
        scene.configure(LOGGED.replace("[queue]\n", "[queue]\nsafety_net_hold_time = 2d\n"))
        scene.unit.start()
        for to in ("carol@partner.example", "erin@partner.example", "bob@example.org"):
            scene.send(to, "Offer")
        until(lambda: len(scene.run("kmq --json replay --list")) == 3, "three messages are kept")
        yield scene


@contextmanager
def renamed(folder: Path) -> Iterator[Scene]:
    """kmqd does not run; at home everybody is in example.lan, and partner.example shall not see it."""
    with stopped(folder) as scene:
        more = "[outside : rewrite]\nconnectors = partner\naddresses =\n  file:generic\n  @*.example.lan @example.org\n"
        scene.configure(f"{CONFIGURATION}\n{more}")
        scene.write("generic", "root@ postmaster@example.org\n@example.lan @example.org\n")
        yield scene


@contextmanager
def house(folder: Path) -> Iterator[Scene]:
    """A mail server that is being set up: it has a resolver that knows the world, a certificate, and a mail log."""
    with ExitStack() as stack:
        scene = stack.enter_context(stopped(folder))
        stack.enter_context(partner(scene).threaded())
        stack.enter_context(world(scene).threaded())
        (folder / "etc" / "tls").mkdir()
        pair = Authority(folder / "etc" / "tls").issue("mx.example.org", days=90)
        pair.chain.rename(folder / "etc" / "tls" / "fullchain.pem")
        pair.key.rename(folder / "etc" / "tls" / "key.pem")
        scene.configure(LOGGED)
        scene.unit.start()
        yield scene


GONE = """\
retry_profile = patient

[gone : connector]
type = smarthost
hosts = 127.0.0.1:2527
address_spaces = gone.example
retry_profile = hasty

[patient : retry]
steps = 100ms
warn_after = 300ms

[hasty : retry]
steps = 200ms
warn_after = 0
bounce_after = 1s
"""


@contextmanager
def troubled(folder: Path) -> Iterator[Scene]:
    """1 has killed two workers, and was set aside; 2 waits for partner.example for so long that 3 told Alice; and 25
    messages for gone.example came to their end at the same time, so that kmqd stopped after it had given up 19."""
    with stopped(folder) as scene:
        within = Path(__file__).resolve().parents[1] / "torture" / "within"
        scene.unit.environment = {"PYTHONPATH": str(within), "KMQ_EVIL": "1", "KMQ_IMPATIENT": "1"}
        scene.configure(CONFIGURATION + GONE)
        scene.unit.start()
        scene.send("abort@partner.example", "Offer")
        scene.until_mailq(lambda queue: queue and "Poison" in str(queue[0]["Queue"]), "it is set aside")
        scene.send("carol@partner.example", "Offer")
        until((folder / "spool" / "mail" / "alice" / "new").exists, "Alice is told")
        for number in range(25):
            scene.send(f"user{number}@gone.example")
        until(lambda: "expiry is stopped" in "".join(scene.run("kmq queues")), "expiry is stopped")
        until(lambda: "?" not in "".join(scene.run("kmq pressure")), "the memory was looked at")
        yield scene


@contextmanager
def denied(folder: Path) -> Iterator[Scene]:
    """The server of partner.example relays for us no more. Alice has her 1 back; 2 and 4, Bob's and hers, are held."""
    with ExitStack() as stack:
        scene = stack.enter_context(stopped(folder))
        hop = partner(scene)
        hop.data = "554 5.7.1 Relay access denied"
        stack.enter_context(hop.threaded())
        scene.configure(CONFIGURATION.replace("[queue]\n", "[queue]\ngrace_hold = 2\n"))
        scene.unit.start()
        mailbox = folder / "spool" / "mail" / "alice" / "new"
        scene.send("carol@partner.example", "Offer")
        until(lambda: mailbox.exists() and any(mailbox.iterdir()), "Alice is told")
        scene.send("dave@partner.example", "Bill", sender="bob@example.org")
        until(lambda: "grace hold" in "".join(scene.run("kmq queues")), "the queue is held")
        until(lambda: "grace hold" in "".join(scene.run("kmq doctor")), "the second is over in which it was counted")
        scene.send("erin@partner.example", "Lunch")
        scene.until_mailq(lambda queue: len(queue) == 2, "both wait")
        yield scene


@contextmanager
def aliased(folder: Path) -> Iterator[Scene]:
    """kmqd does not run; there are aliases."""
    with stopped(folder) as scene:
        scene.configure(CONFIGURATION.replace("workers = 1\n", "workers = 1\nalias_files = aliases\n"))
        aliases = "root:   alice\nstaff:  :include:/etc/kmq/staff\nowner-staff: alice\nlost:   nobody\n"
        scene.write("aliases", aliases)
        scene.write("staff", "bob, carol@partner.example\n")
        yield scene


@contextmanager
def printed(folder: Path) -> Iterator[Scene]:
    """kmqd does not run; its configuration is the example of kmq.conf(5)."""
    page = (Path(__file__).resolve().parents[2] / "man" / "kmq.conf.5").read_text()
    example = page.partition(".SH EXAMPLE\n.nf\n")[2].partition(".fi\n")[0]
    with stopped(folder) as scene:
        text = example.replace("\\&", "").replace("\\-", "-")
        scene.configure(text.replace("[kmq]\n", "[kmq]\nspool = /var/spool/kmq\n"))
        yield scene


RULES = """
[large : rule]
apply = outgoing
condition =
    size over 100
    envelope sender is not boss@example.org
action =
    set header Subject: [large] ${subject}
    copy to audit@example.org

[fraud : rule]
match = any
condition =
    subject matches ^(offer|bill) of the (week|month)
    attachment is *.exe, *.scr
action = hold looks like the fraud of last week

[former : rule]
condition = envelope recipient is dora@example.org
action = redirect to bob@example.org
"""


@contextmanager
def ruled(folder: Path) -> Iterator[Scene]:
    """There are server rules; 1, an offer of the week for Bob, is held by one of them."""
    with stopped(folder) as scene:
        scene.configure(f"{CONFIGURATION}{RULES}")
        scene.write(
            "offer.eml", "From: alice@example.org\nTo: bob@example.org\nSubject: Offer\n\n" + "Dear friend\n" * 9
        )
        scene.unit.start()
        scene.send("bob@example.org", "Offer of the week")
        scene.until_mailq(lambda queue: queue and queue[0]["Status"] == "Suspended", "it is held")
        yield scene


ATTACHMENTS = """
[programs : attachment]
names = *.exe, *.scr
types = application/x-dosexec
description = Programs are not let through by mail.
"""


@contextmanager
def filtered(folder: Path) -> Iterator[Scene]:
    """Programs are taken out of mail: of 1, which went on as 2; 3 has no sure reading and is held."""
    with stopped(folder) as scene:
        scene.configure(f"{CONFIGURATION}{ATTACHMENTS}")
        scene.unit.start()
        scene.send("bob@example.org", "Offer", Content_Type='application/octet-stream; name="offer.exe"')
        until(lambda: list((folder / "spool" / "mail" / "bob").glob("new/*")), "the first is delivered")
        scene.send("bob@example.org", "Offer", Content_Type="multipart/mixed")
        scene.until_mailq(lambda queue: queue and queue[0]["Status"] == "Suspended", "it is held")
        yield scene


@contextmanager
def archived(folder: Path) -> Iterator[Scene]:
    """Incoming mail is archived: 1 to bob, 2 to alice, both delivered."""
    with stopped(folder) as scene:
        scene.configure(f"{CONFIGURATION}\n[backup]\nincoming = yes\nlocal = yes\n")
        scene.unit.start()
        for number, user in enumerate(("bob", "alice"), 1):
            scene.send(f"{user}@example.org", "Offer")
            until(lambda n=number: len(list((folder / "spool" / "backup").glob("*/*.env"))) == n, "it is archived")  # type: ignore[misc]
        scene.until_mailq(lambda queue: not queue, "both are delivered")
        yield scene


SCENES: dict[str, Callable[[Path], AbstractContextManager[Scene]]] = {
    "quiet": quiet,
    "stopped": stopped,
    "busy": busy,
    "logged": logged,
    "kept": kept,
    "renamed": renamed,
    "house": house,
    "troubled": troubled,
    "denied": denied,
    "aliased": aliased,
    "printed": printed,
    "ruled": ruled,
    "filtered": filtered,
    "archived": archived,
}
