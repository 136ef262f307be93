"""Why a message, or a queue, is still here: every cause that `kmq explain` can name. kmq(1)

Law:      CAUSES is all there is. `says` is the sentence; `proof` says what proves it; `first` is what has to be done
          before `command`, which changes it: said as it stands, when that is done. A reload alone tries nothing again
          that waits for a time. Names in braces are filled in (`explain`): id, queue, connector, domain, path of the
          configuration, phase, who, why, remedy, limit. `until` says what ends it where that is neither a time nor
          somebody's deed.
Callers:  kmq.admin.explain; kmq(1) is held against it.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Cause(NamedTuple):
    """One cause; see above."""

    says: str
    proof: str
    command: str
    first: str = ""
    until: str = ""


_SEE = "kmq processes"
_RETRY = "kmq retry --queue {queue}"
_RELOAD = "kmq reload"
_HOLDER = "the envelope's event `suspended`"
_QUEUE = "the queue's state, from kmqd"
_REPLY = "the reply to the last attempt"
_WORK_ENDS = "the work in hand ends"

CAUSES: Mapping[str, Cause] = {
    # --- kmqd itself ---
    "kmqd-stopped": Cause(
        "kmqd does not run, so nothing is delivered", "nobody holds the spool's lock", "systemctl start kmq"
    ),
    "kmqd-silent": Cause(
        "kmqd runs and does not answer: {why}",
        "the spool's lock is held, the control socket silent",
        "systemctl restart kmq",
        "kmq processes shows which process stands still",
    ),
    "not-allowed": Cause(
        "this user may not ask kmqd, so only what the files say is known", "the control socket", "sudo kmq explain {id}"
    ),
    "no-worker": Cause(
        "no worker is up, so nobody can deliver it",
        "the status files of the workers",
        "systemctl restart kmq",
        "kmq processes and the log say what they died of",
    ),
    "workers-stand-still": Cause(
        "every worker stands still, so nobody can deliver it: {why}",
        "the status files of the workers",
        "systemctl restart kmq",
        "kmqd ends and replaces one that stands still for {limit} by itself; kmq processes shows what each was doing",
    ),
    "loading": Cause(
        "kmqd has begun anew and has not come to it yet; its turn comes by itself",
        "kmqd knows nothing of it, and its files are there",
        _SEE,
    ),
    "disk-full": Cause(
        "the spool's disk is nearly full: nothing new is taken in, and what is done may have to wait to be recorded",
        "free space, and minimum_free",
        "kmq doctor",
        "make room on the spool's disk",
    ),
    "back-pressure": Cause(
        "kmqd runs short of something, so new mail is slowed down or refused; what is queued goes on",
        "kmqd's word of it",
        "kmq pressure",
        until="there is room again",
    ),
    # --- operators ---
    "suspended": Cause("it is held {who}", _HOLDER, "kmq resume {id}"),
    "infected": Cause(
        "it is held {who}",
        _HOLDER,
        "kmq remove {id}",
        "kmq resume {id} lets it go on past the scanners, with all that they found in it",
    ),
    "pending-suspend": Cause(
        "it is being delivered now, and is held {who} if it comes back", _HOLDER, "kmq resume {id}"
    ),
    "pending-remove": Cause(
        "it was removed {who} while it was being delivered: it goes when that ends, delivered if that succeeds",
        "the envelope's event `removing`",
        _SEE,
        until=_WORK_ENDS,
    ),
    "queue-suspended": Cause("the whole queue is held {who}", _QUEUE, "kmq resume --queue {queue}"),
    "submission-suspended": Cause(
        "the Submission queue is held {who}: nothing is categorized", _QUEUE, "kmq resume --queue Submission"
    ),
    "grace-hold": Cause(
        "the whole queue is held by kmq itself, since too much of it would have been returned for one cause: {why}",
        _QUEUE,
        "kmq resume --queue {queue}",
        "{remedy}",
    ),
    "expiry-stopped": Cause(
        "its time is over, and it is not given up, since too much would have been at once; it is tried again as before",
        "kmqd's word that expiry is stopped",
        "kmq expire",
    ),
    # --- poison/ ---
    "poison": Cause(
        "it was set aside in poison/: {why}",
        "the envelope's event `moved`",
        "kmq resume {id}",
        "kmq poison test {id} --phase {phase} runs it again, where it can do no harm",
    ),
    "poison-damaged": Cause(
        "it was set aside in poison/, since its files are damaged: {why}",
        "the reason beside its files",
        "kmq remove {id}",
        "kmq fsck says what is wrong; save what can be saved: kmq submit sends its .eml anew",
    ),
    "lost-notice": Cause(
        "it is a notice that could not be delivered, and was set aside in poison/: nobody is left who could be told",
        "the envelope's event `moved`",
        "kmq remove {id}",
        "read it: kmq show {id}",
    ),
    "damaged": Cause(
        "its envelope cannot be understood: {why}",
        "the envelope's file",
        "systemctl restart kmq",
        "kmq fsck says what is wrong; a start sets it aside in poison/",
    ),
    # --- routing ---
    "no-connector": Cause(
        "no connector serves {domain}",
        "the envelope's event `routed`",
        _RELOAD,
        "give a connector of {path} the address space {domain}, or *",
    ),
    "no-hosts": Cause(
        "the connector that would serve {domain} has no hosts yet: {why}",
        "the envelope's event `routed`",
        _RELOAD,
        "write its hosts into {path}",
    ),
    "connector-disabled": Cause(
        "the connector that would serve {domain} is disabled: {why}",
        "the envelope's event `routed`",
        _RELOAD,
        "write enabled = yes into its section of {path}",
    ),
    "no-mailboxes": Cause(
        "{domain} is a local domain, and no connector has its mailboxes: {why}",
        "the envelope's event `routed`",
        _RELOAD,
        "add a connector of type mailbox to {path}",
    ),
    "no-domain": Cause(
        "its address has no domain that mail could go to: {why}",
        "the envelope's event `routed`",
        "kmq remove {id} --with-ndr",
    ),
    "connector-gone": Cause("the configuration has no such connector any more: {why}", _REPLY, "kmq resubmit {id}", ""),
    "categorizing": Cause("it waits for its turn to be categorized", "its state in the Submission queue", _SEE),
    "alias-trouble": Cause(
        "who it is for cannot be found out now: {why}", _REPLY, "kmq retry {id}", "kmq check says what is wrong"
    ),
    # --- the way out ---
    "unreachable-host": Cause(
        "nobody could connect to the next hop, so the whole queue waits: {why}",
        _QUEUE,
        _RETRY,
        "kmq doctor says what is reached from here",
    ),
    "dns-trouble": Cause(
        "the DNS could not say where the mail goes: {why}",
        _REPLY,
        _RETRY,
        "kmq doctor --to {domain} asks the same servers",
    ),
    "connection-lost": Cause("the next hop ended the connection, or fell silent: {why}", _REPLY, _RETRY),
    "turned-away": Cause(
        "the next hop would not talk to us at all: {why}", _REPLY, _RETRY, "its administrator knows why"
    ),
    "no-tls-there": Cause(
        "TLS is demanded, and the next hop does not offer it: {why}",
        _REPLY,
        _RETRY,
        "ask its administrator for STARTTLS, or do without: tls = may in [{connector} : connector], then kmq reload",
    ),
    "untrusted": Cause(
        "the certificate of the next hop is not trusted: {why}",
        _REPLY,
        _RETRY,
        "name who is to be trusted with tls_ca_file in [{connector} : connector], then kmq reload",
    ),
    "tls-failed": Cause(
        "TLS with the next hop fails: {why}",
        _REPLY,
        _RETRY,
        "set tls, tls_minimum or tls_failure in [{connector} : connector] as the server needs it, then kmq reload",
    ),
    "no-tls-at-once": Cause(
        "the next hop speaks clear text where TLS was to begin: {why}",
        _REPLY,
        _RETRY,
        "write tls = must (STARTTLS) for tls = implicit into [{connector} : connector], or the port of its TLS, then"
        " kmq reload",
    ),
    "login-failed": Cause(
        "the next hop does not take user name and password: {why}",
        _REPLY,
        _RETRY,
        "mend auth_user or the password_file of [{connector} : connector], then kmq reload",
    ),
    "no-source-address": Cause(
        "this machine has not the address that the connector's mail is to come from: {why}",
        _REPLY,
        _RETRY,
        "give the machine that address, or change source_address in [{connector} : connector], then kmq reload",
    ),
    "own-files": Cause(
        "a file that the connector needs cannot be used: {why}",
        _REPLY,
        _RETRY,
        "mend the file that is named; kmq check looks at it",
    ),
    "no-examiner": Cause(
        "the program that looks into mail for attachment and server rules could not answer: {why}",
        _REPLY,
        "kmq retry {id}",
        "kmq doctor begins one to see; the log of the worker tells more",
    ),
    "scanner-down": Cause(
        "it waits for a scanner of mail, or a milter, that cannot be asked: {why}",
        _REPLY,
        "kmq retry {id}",
        "kmq check asks it; when it is back kmq retry --queue Submission is quicker than the schedule; or write"
        " failure = open into its section, then kmq reload: mail is delivered unscanned",
    ),
    "scanner-later": Cause(
        "a scanner of mail, or a milter, says that it is to come again: {why}",
        _REPLY,
        "kmq retry {id}",
        "greylist and soft_reject in the section of an rspamd say whether mail waits then",
    ),
    "no-archive": Cause(
        "it is to be archived before it goes on, and cannot be: {why}",
        _REPLY,
        "kmq retry {id}",
        "make room in the folder that is named, or mount it; or write backup_failure = go_on into [backup], then kmq"
        " reload; kmq check looks at it",
    ),
    "own-disk": Cause(
        "its file in the spool could not be read or written: {why}",
        _REPLY,
        "kmq retry {id}",
        "kmq doctor looks at the disk, kmq fsck at the queue",
    ),
    "agent-down": Cause(
        "the connector's program does not run, so its queue waits: {why}",
        _REPLY,
        _RETRY,
        "mend the program, or command in [{connector} : connector]; the log has what it said, kmq check looks at it",
    ),
    "agent-unanswered": Cause(
        "the connector's program had it and did not answer; whether it was delivered is not known: {why}",
        _REPLY,
        "kmq retry {id}",
        "look what the program did with it: a further attempt may deliver it twice",
    ),
    "drop-full": Cause(
        "the gateway has not taken what waits in its folder: {why}",
        _REPLY,
        _RETRY,
        "see to the gateway; when it has taken some, the queue goes on by itself",
    ),
    "drop-folder": Cause(
        "the folder of the gateway cannot be written: {why}",
        _REPLY,
        _RETRY,
        "mend the folder, or drop_directory in [{connector} : connector]; kmq check looks at it",
    ),
    "scheduled": Cause(
        "its connector is offline: it waits for the timetable, {why}",
        _QUEUE,
        _RETRY,
        "send_at and send_every in [{connector} : connector] say when it is sent by itself",
    ),
    "on-demand": Cause(
        "its connector is offline and has no timetable: it waits until somebody has it sent",
        _QUEUE,
        _RETRY,
        until="somebody has it sent: kmq retry, kmq flush, or the domain itself with ETRN",
    ),
    "out-of-hours": Cause(
        "its connector works at other hours: {why}",
        _QUEUE,
        _RETRY,
        "between and days in [{connector} : connector] say which",
    ),
    "probe-running": Cause("the next hop failed before, and one message tries now whether it is back", _QUEUE, _SEE),
    "throttled": Cause(
        "the connector's own limits hold it back: {why}",
        _QUEUE,
        _RELOAD,
        "it goes on by itself; to let more pass, raise that limit in [{connector} : connector]",
    ),
    "asked-less": Cause(
        "the next hop asked for less, so its queue pauses and goes on slower: {why}",
        "the replies to the last messages",
        _RELOAD,
        "it goes on by itself; slow_down = no in [{connector} : connector] would not heed it",
    ),
    "connections-busy": Cause(
        "all connections that may be made to the next hop are in use: {why}",
        _REPLY,
        _RETRY,
        "it goes on by itself; to have more, raise connections_per_host in [{connector} : connector], then kmq reload",
    ),
    "waiting-turn": Cause("it waits for its turn; nothing is wrong", _QUEUE, _SEE),
    "in-hand": Cause("it is being worked on now: {why}", "the status file of the process", _SEE, until=_WORK_ENDS),
    "suspect": Cause(
        "a worker died while it was at work on it; it is tried alone, to see whether it was the cause, as soon as a"
        " worker has nothing else in hand",
        "kmqd's word of it, and the envelope's event `crashed`",
        _SEE,
        until="a worker has nothing else in hand, which kmqd sees to",
    ),
    # --- what the next hop said of a recipient ---
    "greylisted": Cause(
        "the next hop puts off mail of senders that it does not know yet: {why}", _REPLY, "kmq retry {id}"
    ),
    "slow-down": Cause("the next hop asks us to be slower: {why}", _REPLY, "kmq retry {id}"),
    "mailbox-full": Cause("the mailbox is full: {why}", _REPLY, "kmq retry {id}", "the recipient has to make room"),
    "mailbox-locked": Cause(
        "another program has locked the mailbox: {why}",
        _REPLY,
        "kmq retry {id}",
        "see which mail program of the recipient holds it (fuser FILE); a .lock that nobody owns goes after 5 minutes",
    ),
    "command-failed": Cause(
        "the command that delivers it failed: {why}",
        _REPLY,
        "kmq retry {id}",
        "mend the command in [{connector} : connector]; kmq.conf(5), LOCAL DELIVERY, tells what its exit status means",
    ),
    "no-deliverer": Cause(
        "kmq-deliver, which is to deliver it as the user, cannot or may not: {why}",
        _REPLY,
        "kmq check",
        "see kmq-deliver(8): systemctl status kmq-deliver.socket kmq-deliver; as root and as who is no person nothing"
        " is delivered, so they need aliases",
    ),
    "local-storage": Cause(
        "it cannot be written into the mailbox here: {why}",
        _REPLY,
        "kmq retry {id}",
        "mend the folder: maildir or mbox in [{connector} : connector] says where it is",
    ),
    "deferred": Cause("the next hop refused it for now: {why}", _REPLY, "kmq retry {id}"),
    # --- over ---
    "ending": Cause("all its recipients are done; its files are about to go", "the envelope", "kmq history {id}"),
    "delivered": Cause("it is here no more: it was delivered", "the tracking log", "kmq history {id}"),
    "failed": Cause("it is here no more: it failed for good: {why}", "the tracking log", "kmq history {id}"),
    "removed": Cause("it is here no more: it was removed {who}", "the tracking log", "kmq history {id}"),
    "expanded": Cause("it is here no more: other messages go on for it: {why}", "the tracking log", "kmq history {id}"),
    "discarded": Cause("it is here no more: it was dropped {who}", "the tracking log", "kmq history {id}"),
    "replaced": Cause("it is here no more: it goes on as {why}, changed {who}", "the tracking log", "kmq history {id}"),
    "left": Cause("it is here no more, and its end is not in the tracking log", "the tracking log", "kmq history {id}"),
    "unknown": Cause("there is no trace of it: too long ago, or never here", "queue and tracking log", "kmq mailq"),
    # --- queues ---
    "flowing": Cause("nothing is wrong: what is in the queue goes out", _QUEUE, "kmq mailq --queue {queue}"),
    "empty": Cause("nothing waits in it", _QUEUE, "kmq queues"),
    "deferred-each": Cause(
        "its next hop talks to us; what waits was refused for now, message by message",
        "the messages' own next attempts",
        _RETRY,
        "kmq mailq --queue {queue} shows what was said of each",
    ),
    "held-each": Cause(
        "its next hop talks to us; what waits is held, message by message",
        "the messages' own states",
        "kmq resume --queue {queue} --messages",
        "kmq mailq --queue {queue} shows who holds each",
    ),
    "poison-queue": Cause(
        "what is here was set aside, and stays until somebody decides",
        "the files in poison/",
        "kmq resume ID",
        "kmq mailq --queue Poison shows why; kmq poison test ID runs one again",
    ),
    "unreachable-queue": Cause(
        "no connector serves what is here; it is routed anew with each new configuration",
        _QUEUE,
        _RELOAD,
        "give a connector of {path} the address space {domain}, or *; kmq mailq --queue Unreachable says more",
    ),
}
