"""Every option of kmq, declared once: kind, default, meaning, and whether a change needs a restart.

Promise:  a section is frozen; whoever is handed one sees values (seconds, bytes, parsed addresses), never text.
          kmq.conf(5) and `kmq config` are printed from here. What stands nowhere here is refused.
Shapes:   durations are float seconds, sizes are int bytes. Defaults are written as in the file, `${...}` included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from kmq.config import kinds, limits, steps
from kmq.config.back_pressure import BackPressureSection as BackPressureSection
from kmq.config.backup import BackupSection as BackupSection
from kmq.config.connector import ConnectorSection as ConnectorSection
from kmq.config.content import AttachmentSection as AttachmentSection
from kmq.config.content import ContentSection as ContentSection
from kmq.config.drop import PickupSection as PickupSection
from kmq.config.drop import ReplaySection as ReplaySection
from kmq.config.kinds import Endpoint
from kmq.config.milter import MilterSection as MilterSection
from kmq.config.notices import NoticesSection as NoticesSection
from kmq.config.options import Option as Option
from kmq.config.options import option, section
from kmq.config.receiver import ReceiverSection as ReceiverSection
from kmq.config.retries import RetrySection as RetrySection
from kmq.config.rewrite import RewriteSection as RewriteSection
from kmq.config.rule import RuleSection as RuleSection
from kmq.config.scanner import ScannerSection as ScannerSection
from kmq.config.sendmail import SendmailSection as SendmailSection


@section
class KmqSection:
    """The machine: its name, its spool, its processes."""

    hostname: str = option(
        kinds.domain(),
        derived="${machine:name}",
        restart=True,
        doc="Name of this server: greeting, `Received:` lines, HELO. Other servers expect it to be a full name that"
        " the DNS knows. `${machine:name}` is what the machine calls itself.",
    )
    spool: Path = option(
        kinds.path(),
        derived="/var/spool/kmq",
        restart=True,
        doc="The folder of queue, journal and status files, on one local file system.",
    )
    run_directory: Path = option(
        kinds.path(),
        derived="${spool}/run",
        restart=True,
        doc="The folder of sockets and locks.",
    )
    local_domains: tuple[str, ...] = option(
        kinds.domains(),
        default="",
        doc="Domains whose mailboxes are here. A connector of type mailbox serves them. Mail for `postmaster` without"
        " a domain goes to the postmaster of the first one.",
    )
    alias_files: tuple[str, ...] = option(
        kinds.files(),
        default="",
        doc="Files of aliases in the form of kmq-aliases(5); where two say something of one address the first one"
        " counts. They are read again when they change. `root`, `abuse` and `postmaster` of every local domain are"
        " taken in always: without an alias and a mailbox they are `postmaster`.",
    )
    operators_group: str = option(
        kinds.group(),
        default="",
        restart=True,
        doc="Who may steer the queue beside root and kmqd's own user: the members of this group. What kmqd is asked"
        " over its control socket, it asks the kernel who asks. Nothing: nobody else.",
    )
    viewers_group: str = option(
        kinds.group(),
        default="",
        restart=True,
        doc="Who may look at the queue, with all verbs of kmq(1) that only look, and change nothing. The files of the"
        " queue remain those of root and kmqd's own user, and so does what is in a message: kmqd shows envelopes and"
        " headers, never bodies.",
    )
    receivers: int = option(kinds.whole(1, 64), default="1", doc="Processes that take mail in.")
    workers: int = option(kinds.whole(1, 64), default="2", doc="Processes that deliver.")
    loop_limit: float = option(
        kinds.duration("1s", "1h"),
        default="2m",
        doc="A process, other than a worker, whose loop stands still for longer is ended, up to ten seconds after that,"
        " and begun again.",
    )
    postmaster: str = option(
        kinds.address(),
        derived="postmaster",
        doc="Who looks after this server. A name alone is a user of the first local domain, or of `hostname` when"
        " there is none.",
    )
    dns_servers: tuple[Endpoint, ...] = option(
        kinds.dns_servers(),
        default="",
        doc="Resolvers that connectors of type dns ask; nothing: those of /etc/resolv.conf, as it stands at the time."
        " Answers are kept for as long as they hold; a reload forgets them.",
    )
    dns_timeout: float = option(
        kinds.duration("100ms", "5m"),
        default="20s",
        doc="Longest wait for the answer to one question; then the domain's mail waits (4.4.3).",
    )
    log_level: str = option(
        kinds.choice("debug", "info", "warning", "error"), default="info", doc="The least grave lines that are logged."
    )
    mail_log: str = option(
        kinds.log_target(),
        default="stderr",
        doc="Where lines about mail go (kmq-log(5)): `stderr`, with all others, which under systemd is the journal;"
        " `syslog`, the machine's syslog with the facility mail; or a file, which is opened anew on SIGUSR1. In syslog"
        " and in a file they stand whatever `log_level` says.",
    )
    tracking_log: str = option(
        kinds.log_folder(),
        default="spool",
        doc="Where the tracking log goes (kmq-tracking(5)): what happened to each message, as JSON lines, for"
        " `kmq track`, `kmq history` of mail that has left, and `kmq mailq --at`. `spool`: the folder `log/` of the"
        " spool; the absolute path of another folder; or `off`.",
    )
    tracking_file_size: int = option(
        kinds.size("64K", "1G"),
        default="10M",
        doc="A file of the tracking log that is so large is followed by another; so is one of an earlier hour.",
    )
    tracking_size: int = option(
        kinds.size("128K"), default="1G", doc="Most bytes of the tracking log; beyond, its oldest files go."
    )
    tracking_age: float = option(
        kinds.duration("1h", "3650d"),
        default="30d",
        doc="Files of the tracking log that are older go when the next one is begun.",
    )
    tracking_subjects: bool = option(
        kinds.yes_or_no(), default="no", doc="Whether the tracking log has the subjects of messages."
    )


@section
class QueueSection:
    """The queue: how safe, how often tried again, how long, how many at once."""

    durability: str = option(
        kinds.choice("journal", "files"),
        default="journal",
        restart=True,
        doc="`journal`: a log, synced for many messages at once; files follow. `files`: the files themselves are"
        " synced, without a log: simpler and slower.",
    )
    queue_database_batch_size: int = option(
        kinds.whole(1, 10000), default="40", doc="Most records that are made durable by one sync."
    )
    queue_database_batch_timeout: float = option(
        kinds.duration("0", "1s"),
        default="3ms",
        doc="How long a record waits for company while mail is flowing; one that comes alone does not wait. Where a"
        " sync takes longer than this, it waits for mail from those who sent some a moment ago, for as long as a sync"
        " takes; 0: never. Mail that came together waits no longer than this for the next sync, and is delivered"
        " beside it.",
    )
    queue_database_logging_file_size: int = option(
        kinds.size("64K", "1G"), default="8M", restart=True, doc="Size of one segment of the journal."
    )
    checkpoint_interval: float = option(
        kinds.duration("100ms", "1h"), default="10s", doc="Longest time between two checkpoints of the journal."
    )
    checkpoint_size: int = option(
        kinds.size("64K", "16G"), default="32M", doc="Journal written since the last checkpoint that calls for one."
    )
    effects_delay: float = option(
        kinds.duration("0", "1s"),
        default="50ms",
        doc="How far the plain files follow behind the journal; a message that is gone before needs none.",
    )
    retry_profile: str = option(
        steps.profile(),
        default="rfc",
        doc="How often what could not be delivered is tried again, when its sender is warned, and when it is given up."
        " `rfc`: waits that double (`retry_interval`, `retry_interval_max`, `connection_retry_interval`), a warning"
        " after 4h, 5d in all. `exchange`: 4 x 1m, 6 x 5m, then every 10m, a warning after 4h, 2d in all. `kerio`:"
        " every 30m, a warning after 4h, 2d in all. Others are sections [NAME : retry]; a connector may have its own.",
    )
    retry_interval: float = option(
        kinds.duration("10ms", "30d"),
        default="5m",
        doc="Profile `rfc`: wait after the first temporary refusal; it doubles with each one.",
    )
    retry_interval_max: float = option(
        kinds.duration("10ms", "30d"), default="1h", doc="Profile `rfc`: the wait doubles no further than this."
    )
    connection_retry_interval: float = option(
        kinds.duration("10ms", "30d"),
        default="1m",
        doc="Profile `rfc`: wait before a next hop that could not be reached is tried again; it doubles, too.",
    )
    retry_jitter: float = option(
        kinds.share(), default="0.1", doc="Waits are longer or shorter by up to this part of them, at random."
    )
    message_lifetime: float | None = option(
        steps.own_duration("1s", "90d"),
        default="",
        doc="The attempt that fails after this time is the last one: the sender is told that delivery failed. Left out,"
        " the profile says it (`rfc`: 5d).",
    )
    delay_warning: float | None = option(
        steps.own_duration("0", "90d"),
        default="",
        doc="The attempt that fails after this time has the sender told, once, that delivery takes longer. 0: never."
        " Left out, the profile says it (`rfc`: 4h).",
    )
    mass_expiry: int = option(
        kinds.whole(0, 1000000),
        default="20",
        doc="When so many messages, and more than 1 % of the queue, would be given up within a minute, nothing is given"
        " up any more until an operator says `kmq expire`: it may be our own line that is down. 0: no such limit.",
    )
    grace_hold: int = option(
        kinds.whole(0, 1000000),
        default="10",
        doc="When so many recipients fail for good within a minute for a cause that is likely ours (a login that is"
        " refused, relaying denied, our address blocked, every domain unknown), and hardly anything else of the same"
        " connector is delivered, those mails are held instead of returned: the queue is suspended until `kmq resume"
        " --queue`. 0: never.",
    )
    bounce_size_limit: int = option(
        kinds.size("0", "512K"),
        default="50K",
        doc="A sender who asked for the whole message with the notice (RET=FULL) gets it up to this size, else its"
        " header, which is cut at 50000 bytes.",
    )
    undeliverable_notices: str = option(
        kinds.choice("postmaster", "poison", "drop"),
        default="postmaster",
        doc="What becomes of mail from the empty sender (notices) that fails for good, since nobody may be told:"
        " `postmaster`: the postmaster gets it, and what fails even so goes to `poison/`; `poison`: it goes there;"
        " `drop`: a line in the log is all.",
    )
    queue_max_idle_time: float = option(
        kinds.duration("5s", "1h"), default="3m", doc="A queue that is empty is shown for so long, then forgotten."
    )
    per_hop: int = option(
        kinds.whole(1, 10000),
        default="20",
        doc="Connections to one next hop, and by DNS to one server, over all workers together.",
    )
    priority_queuing: bool = option(
        kinds.yes_or_no(),
        default="no",
        doc="Whether mail is more or less urgent than other mail by its header: `X-Priority` (1 and 2 high, 4 and 5"
        " low), else `Priority` (urgent, non-urgent), else `Importance` (high, low); whose header says so, see"
        " `priority_from`. Urgent mail goes first, and its sender hears sooner that it does not arrive. It counts for"
        " mail that comes in from then on. Exchange's PriorityQueuingEnabled, off there too: who marks a message as"
        " important does not know that it is given up after hours then.",
    )
    high_priority_size: int = option(
        kinds.size("1K", "2G"),
        default="250K",
        doc="Larger mail is never of high priority (MaxHighPriorityMessageSize).",
    )
    high_priority_delay_warning: float = option(
        kinds.duration("0", "90d"),
        default="30m",
        doc="`delay_warning` of mail of high priority, if the profile has none that is sooner. 0: never.",
    )
    high_priority_lifetime: float = option(
        kinds.duration("1s", "90d"),
        default="8h",
        doc="`message_lifetime` of mail of high priority, if the profile has none that is shorter.",
    )
    low_priority_delay_warning: float = option(
        kinds.duration("0", "90d"),
        default="8h",
        doc="`delay_warning` of mail of low priority, if the profile has none that is later. 0: never.",
    )
    low_priority_lifetime: float | None = option(
        steps.own_duration("1s", "90d"),
        default="",
        doc="`message_lifetime` of mail of low priority. Left out, it is that of other mail.",
    )
    priority_connections: tuple[int, int, int] = option(
        limits.percentages(),
        default="15, 75, 10",
        doc="With `priority_queuing`, of 100 connections to a next hop those that mail of high, normal and low priority"
        " may have, at least one each (Exchange: 3, 15 and 2 of 20). More than 100 in all means that they share some.",
    )
    delivery: str = option(
        kinds.choice("online", "offline"),
        default="online",
        doc="Whether mail leaves as it comes, where its connector does not say it (`delivery` there).",
    )
    worker_slots: int = option(kinds.whole(1, 10000), default="200", doc="Messages in one worker's hands at once.")
    phase_limit: float = option(
        kinds.duration("10ms", "30d"), default="300s", doc="A worker whose loop stands still for longer is ended."
    )
    poison_threshold: int = option(
        kinds.whole(1, 100), default="2", doc="Crashes that a message causes alone before it goes to `poison/`."
    )
    minimum_free: int = option(
        kinds.size(), default="500M", doc="Free space on the spool's disk; below, nothing is taken in (452)."
    )
    minimum_free_inodes: int = option(
        kinds.whole(0), default="1000", doc="Free inodes on the spool's disk; below, nothing is taken in (452)."
    )
    safety_net_hold_time: float = option(
        kinds.duration("0", "90d"),
        default="0",
        doc="For how long delivered mail is kept in `sent/`, for `kmq replay`. 0: not at all. What is kept costs two"
        " files a message, which mail that leaves at once does not need otherwise, and is private mail on the disk.",
    )
    safety_net_size: int = option(
        kinds.size("1M"),
        default="10G",
        doc="Most bytes in `sent/`; beyond, the oldest mail there goes before its time.",
    )
    small_body: int = option(
        kinds.size("1K", "1M"),
        default="64K",
        doc="Larger bodies are streamed to `incoming/`; smaller ones travel in the journal.",
    )


Section = (
    KmqSection
    | QueueSection
    | ReceiverSection
    | ConnectorSection
    | RetrySection
    | PickupSection
    | ReplaySection
    | SendmailSection
    | RewriteSection
    | BackPressureSection
    | BackupSection
    | NoticesSection
    | ScannerSection
    | MilterSection
    | RuleSection
    | ContentSection
    | AttachmentSection
)

#: The kinds of sections: what ends a line of parents, and its class.
KINDS: dict[str, type[Section]] = {
    "kmq": KmqSection,
    "queue": QueueSection,
    "back_pressure": BackPressureSection,
    "backup": BackupSection,
    "notices": NoticesSection,
    "sendmail": SendmailSection,
    "pickup": PickupSection,
    "replay": ReplaySection,
    "receiver": ReceiverSection,
    "connector": ConnectorSection,
    "retry": RetrySection,
    "rewrite": RewriteSection,
    "scanner": ScannerSection,
    "milter": MilterSection,
    "rule": RuleSection,
    "content": ContentSection,
    "attachment": AttachmentSection,
}

#: Kinds of which there is exactly one section, without name.
SINGLE = ("kmq", "queue", "back_pressure", "backup", "sendmail", "pickup", "replay", "content", "notices")


def _options(declared: type[Section]) -> dict[str, Option]:
    found = {one.name: one.metadata["option"] for one in fields(declared) if "option" in one.metadata}
    order = sorted(found, key=lambda name: name not in declared.__annotations__)  # inherited ones behind its own
    return {name: Option(name, *found[name]) for name in order}


#: Kind of section -> name -> option.
OPTIONS: dict[str, dict[str, Option]] = {kind: _options(declared) for kind, declared in KINDS.items()}


#: The place of a value that the file does not name.
DEFAULT = "default"


class Origin(NamedTuple):
    """Where a value comes from.

    place:   "etc/kmq.conf:31", or DEFAULT.
    heading: of the section that has the value: "isp : connector", "kmq".
    text:    the value as text, `${...}` filled in.
    """

    place: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration. Everybody else is handed a section of it.

    path:     the file as it was named.
    warnings: what is allowed and probably not meant, each a line for the operator.
    origins:  (section's name, option) -> where its value comes from; option "" is the section's heading.
    """

    path: str
    kmq: KmqSection
    queue: QueueSection
    sendmail: SendmailSection = field(default=SendmailSection(socket=""))
    pickup: PickupSection = field(default=PickupSection(directory=""))
    replay: ReplaySection = field(default=ReplaySection(directory=""))
    back_pressure: BackPressureSection = field(default=BackPressureSection())
    backup: BackupSection = field(default=BackupSection(folder=""))
    notices: NoticesSection = field(default=NoticesSection())
    receivers: tuple[ReceiverSection, ...] = ()
    connectors: tuple[ConnectorSection, ...] = ()
    retries: tuple[RetrySection, ...] = ()
    rewrites: tuple[RewriteSection, ...] = ()
    scanners: tuple[ScannerSection, ...] = ()
    milters: tuple[MilterSection, ...] = ()
    rules: tuple[RuleSection, ...] = ()
    content: ContentSection = field(default=ContentSection())
    attachments: tuple[AttachmentSection, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict, compare=False, repr=False)

    def origin(self, name: str, option: str) -> Origin:
        """Where the value of an option in the section `name` comes from; of settings made by hand nothing is known."""
        return self.origins.get((name, option)) or Origin(DEFAULT, name, "")
