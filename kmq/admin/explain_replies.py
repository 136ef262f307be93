"""What a reply that puts mail off means: its cause, of those that `explain_causes` has.

Law:      the first row of a table that fits counts. What kmq itself says is known word for word (phases/smtp_opening,
          phases/targets, routing/mx, phases/maildir, mbox, pipe, agent, drop_folder); of what others say, the enhanced
          code (RFC 3463) tells most, and habits of common servers the rest.
Promise:  pure; whatever a server says, there is an answer.
Callers:  kmq.admin.explain.
"""

import re

#: Of a hop that could not be talked to: kmq's own words.
_REACHING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), code)
    for pattern, code in (
        (r"4\.3\.5 .*the configuration has no connector", "connector-gone"),
        (r"4\.3\.2 the agent is begun anew", "agent-down"),
        (r"4\.3\.1 .* is full \(drop_quota", "drop-full"),
        (r"4\.3\.1 there is no room in|4\.3\.0 cannot write into|4\.3\.5 .* is (missing|a link)\b", "drop-folder"),
        (r"4\.3\.[01] it cannot be archived in ", "no-archive"),
        (r"4\.3\.0 cannot (read|write) the message", "own-disk"),
        (r"4\.3\.0 The message cannot be examined now", "no-examiner"),
        (r"4\.7\.1 Content scanner unavailable", "scanner-down"),
        (r"4\.4\.3 ", "dns-trouble"),
        (r"certificate verify failed|certificate is not valid|hostname mismatch|self-signed", "untrusted"),
        (r"4\.7\.4 .*TLS is required", "no-tls-there"),
        (r"said: (454|[45]\d\d 5\.7\.[04]|530 .*STARTTLS)", "tls-failed"),
        (r"said: (535|534|538|530|[45]\d\d [45]\.7\.(8|9)\b)|way to log in|no password goes over", "login-failed"),
        (r"4\.3\.5 .*source_address ", "no-source-address"),
        (r"4\.3\.5 ", "own-files"),
        (r"wrong version number", "no-tls-at-once"),
        (r"\bssl\b|\btls\b|handshake|alert", "tls-failed"),
        (r"4\.4\.1 ", "unreachable-host"),
        (r"4\.4\.5 ", "connections-busy"),
        (r" said: 4\d\d.*(too many|rate|slow|throttl|busy)", "slow-down"),
        (r" said: ", "turned-away"),
        (r"^451 4\.7\.1 ", "scanner-later"),
        (r"4\.4\.2 |4\.5\.0 ", "connection-lost"),
    )
)

#: Of a recipient, a sender or a message: what the other server said.
_REFUSING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), code)
    for pattern, code in (
        (r"4\.4\.1 the agent did not answer|4\.3\.0 the agent was ended", "agent-unanswered"),
        (r"gr[ea]y.?list|4\.2\.0 .*try again later", "greylisted"),
        (r"4\.2\.2\b|mailbox.*(full|quota)|over ?quota", "mailbox-full"),
        (r"rate.?limit|throttl|too (many|much|fast)|slow down|4\.7\.(28|650|651)\b", "slow-down"),
        (r"^421 |4\.3\.2\b", "slow-down"),
        (r"4\.7\.1\b|4\.7\.0\b", "greylisted"),
    )
)


#: Of a recipient here: what kmq itself says (phases/mbox, maildir, storing, sysexits, pipe).
_STORING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), code)
    for pattern, code in (
        (r"4\.\d\.\d kmq-deliver\b", "no-deliverer"),
        (r"4\.2\.2 ", "mailbox-full"),
        (r"4\.2\.0 the mailbox is locked", "mailbox-locked"),
        (r"4\.3\.5 \S+ cannot be run: |exited with status \d| died of signal \d| was ended: ", "command-failed"),
        (
            r" (temporary failure|(configuration|system|input/output|command line usage|internal software) error)\b|"
            r" (service unavailable|cannot open input|cannot create output file|critical system file)\b",
            "command-failed",
        ),
    )
)


def of_hop(reply: str) -> str:
    """Why a next hop could not be talked to."""
    return next((code for pattern, code in _REACHING if pattern.search(reply)), "unreachable-host")


def of_recipient(reply: str, host: str, local: bool) -> str:
    """Why a recipient was put off. host: who said it, "" for us; local: he is one of this machine."""
    if local and not host:
        return next((code for pattern, code in _STORING if pattern.search(reply)), "local-storage")
    if not host:
        found = next((code for pattern, code in _REACHING if pattern.search(reply)), "")
        return found or "alias-trouble"
    return next((code for pattern, code in _REFUSING if pattern.search(reply)), "deferred")
