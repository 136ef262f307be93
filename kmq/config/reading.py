"""From a configuration's text to Settings: lines, inheritance, filling in, kinds, checks.

Promise:  either Settings, every value of which has been looked at, or one ConfigError that tells all mistakes, each
          with its file, line, and what would be right. Nothing outside the file counts but this machine's name.
Order:    which text counts is settled first (`inheritance`), then `${...}` is filled in (`filling`), then the text
          is parsed (`kinds`), then sections are held against each other (`checks`).
Callers:  every program, once at its start; kmqd again when it is told to reload.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from kmq.config import backup, checks, content, drop, milter, retry_checks, rewrite, rule, scanner, way_out
from kmq.config.checks import Finding
from kmq.config.embedded import EMBEDDED, PATH
from kmq.config.filling import Filling
from kmq.config.inheritance import Choice, Line, choose, line_of, names_of
from kmq.config.ini import Part, Problem, Written, scan
from kmq.config.kinds import nearest
from kmq.config.rows import Misread, Rows
from kmq.config.sections import (
    DEFAULT,
    KINDS,
    OPTIONS,
    AttachmentSection,
    BackPressureSection,
    BackupSection,
    ConnectorSection,
    ContentSection,
    KmqSection,
    MilterSection,
    NoticesSection,
    Option,
    Origin,
    PickupSection,
    QueueSection,
    ReceiverSection,
    ReplaySection,
    RetrySection,
    RewriteSection,
    RuleSection,
    ScannerSection,
    SendmailSection,
    Settings,
)
from kmq.config.sendmail import mistakes as local_mistakes
from kmq.errors import ConfigError

ENVIRONMENT = "KMQ_CONF"
SYSTEM_PATH = "/etc/kmq/kmq.conf"

Named = TypeVar(
    "Named",
    ReceiverSection,
    ConnectorSection,
    RetrySection,
    RewriteSection,
    RuleSection,
    ScannerSection,
    MilterSection,
    AttachmentSection,
)
Single = TypeVar(
    "Single",
    KmqSection,
    QueueSection,
    BackPressureSection,
    BackupSection,
    NoticesSection,
    PickupSection,
    ReplaySection,
    SendmailSection,
    ContentSection,
)


def load(path: str | None = None) -> Settings:
    """The settings of a file: the one named, else $KMQ_CONF, else /etc/kmq/kmq.conf. ConfigError when it is wrong.

    `Settings.path` may be handed in again, also the one of `embedded`.
    """
    named = path or os.environ.get(ENVIRONMENT) or SYSTEM_PATH
    if named == PATH:
        return embedded()
    try:
        with open(named, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        hint = "" if path else f": name one with -c FILE or in ${ENVIRONMENT}, or try kmq out with kmqd --try"
        raise ConfigError(f"{named}: there is no such file{hint}") from None
    except OSError as wrong:
        raise ConfigError(f"{named}: cannot be read: {wrong.strerror}") from None
    return read(_decoded(content, named), named, os.path.dirname(os.path.abspath(named)))


def _decoded(content: bytes, named: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        raise ConfigError(f"{named}:{line}: byte {content[wrong.start]:#x} is not UTF-8") from None


def embedded(folder: str = "") -> Settings:
    """The settings of EMBEDDED, with the spool in a folder: the current one when left out."""
    return read(EMBEDDED, PATH, os.path.abspath(folder))


def load_or_embedded(path: str | None = None) -> Settings:
    """As `load`; without a file, named or installed, `embedded` if the current folder has the spool of a trial."""
    named = path or os.environ.get(ENVIRONMENT)
    if named or os.path.exists(SYSTEM_PATH) or not os.path.exists("spool/FORMAT"):
        return load(named)
    return embedded()


def read(text: str, path: str, folder: str, machine: str = "") -> Settings:
    """The settings of a text. path: its name in messages; folder: absolute, where relative paths count from.

    machine: the host name to choose values for, this machine's when left out.
    """
    reading = _Reading(path, folder, machine or os.uname().nodename, *scan(text))
    reading.check_written()
    kmq, queue = reading.single("kmq", KmqSection), reading.single("queue", QueueSection)
    receivers, connectors = reading.all_of("receiver", ReceiverSection), reading.all_of("connector", ConnectorSection)
    pickup, replay = reading.single("pickup", PickupSection), reading.single("replay", ReplaySection)
    sendmail = reading.single("sendmail", SendmailSection)
    back_pressure = reading.single("back_pressure", BackPressureSection)
    archiving = reading.single("backup", BackupSection)
    if kmq and archiving:
        reading.find(("backup", *found) for found in backup.mistakes(archiving, kmq.spool))
    notices = reading.single("notices", NoticesSection)
    if kmq and pickup and replay:
        found = drop.mistakes(kmq.spool, pickup.directory, replay.directory)
        reading.find((name, "directory", sentence) for name, sentence in found)
    if kmq and sendmail:
        reading.find(("sendmail", *mistake) for mistake in local_mistakes(kmq.run_directory, sendmail))
    retries = reading.all_of("retry", RetrySection)
    reading.find(checks.mistakes(queue, receivers, connectors))
    reading.find(retry_checks.mistakes(queue, connectors, retries))
    reading.find(way_out.mistakes(connectors, kmq.spool if kmq else None))
    rewrites = reading.rewrites()
    reading.find(rewrite.mistakes(rewrites, connectors))
    scanners, milters = reading.all_of("scanner", ScannerSection), reading.all_of("milter", MilterSection)
    reading.find(scanner.mistakes(scanners, kmq.workers if kmq else 1))
    reading.find(milter.mistakes(milters, kmq.workers if kmq else 1))
    rules = reading.all_of("rule", RuleSection)
    reading.find(rule.mistakes(rules))
    filtering = reading.single("content", ContentSection)
    attachments = reading.all_of("attachment", AttachmentSection)
    reading.find(content.mistakes(attachments))
    if kmq is None or queue is None or pickup is None or replay is None or sendmail is None or reading.wrong():
        raise ConfigError("\n".join(map(reading.one_line, reading.wrong())))
    kmq = _with_whole_postmaster(kmq)
    return Settings(
        path=path,
        kmq=kmq,
        queue=queue,
        sendmail=sendmail,
        pickup=pickup,
        replay=replay,
        back_pressure=back_pressure or BackPressureSection(),
        backup=archiving or BackupSection(folder=""),
        notices=notices or NoticesSection(),
        receivers=receivers,
        connectors=connectors,
        retries=retries,
        rewrites=rewrites,
        scanners=scanners,
        milters=milters,
        rules=rules,
        content=filtering or ContentSection(),
        attachments=attachments,
        warnings=tuple(map(reading.one_line, map(reading.locate, checks.doubts(kmq, queue, receivers, connectors)))),
        origins=reading.origins,
    )


def _with_whole_postmaster(kmq: KmqSection) -> KmqSection:
    if "@" in kmq.postmaster:
        return kmq
    home = kmq.local_domains[0] if kmq.local_domains else kmq.hostname
    return replace(kmq, postmaster=f"{kmq.postmaster}@{home}")


class _Reading:
    """One configuration on its way from lines to settings.

    told:   the mistakes, each once. defaults: those of defaults that are made of other values.
    lines:  section -> its line of parents; a section whose line is broken is left out, a kind always there.
    chosen: section -> option -> the value that counts.
    """

    def __init__(self, path: str, folder: str, machine: str, parts: dict[str, Part], problems: list[Problem]) -> None:
        self.path = path
        self.folder = folder
        self.told = dict.fromkeys(problems)
        self.defaults: dict[Problem, None] = {}
        self.lines = self._sound_lines(parts)
        self.parents = {part.parent for part in parts.values()}
        hosts = names_of(machine, parts.values())
        self.chosen = {name: choose(line, hosts) for name, line in self.lines.items()}
        self.filling = Filling({name: self._texts(name) for name in self.lines}, machine)
        self.origins: dict[tuple[str, str], Origin] = {}

    def _sound_lines(self, parts: dict[str, Part]) -> dict[str, Line]:
        lines = {kind: Line(kind, ()) for kind in KINDS}
        for name, part in parts.items():
            line = line_of(part, parts)
            if isinstance(line, Line):
                lines[name] = line
            else:
                self.told[line] = None
        return lines

    def _texts(self, name: str) -> dict[str, str]:
        chosen, options = self.chosen[name], OPTIONS[self.lines[name].kind]
        texts = {one: chosen[one].written.text if one in chosen else option.default for one, option in options.items()}
        kinds = ((one, option.kind) for one, option in options.items())
        return texts | {one: kind.kept(texts[one]) for one, kind in kinds if isinstance(kind, Rows)}

    # --- telling ------------------------------------------------------------------------------------------------------

    def tell(self, line: int, text: str) -> None:
        self.told[Problem(line, text)] = None

    def wrong(self) -> list[Problem]:
        """All mistakes in the order of their lines. That of a default follows from another one, if there is any."""
        return sorted(self.told or self.defaults)

    def one_line(self, problem: Problem) -> str:
        # What a file has in it may not break the line or steer the terminal that shows it.
        text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in problem.text)
        return f"{self._place(problem.line)}: {text}"

    def _place(self, line: int) -> str:
        return f"{self.path}:{line}" if line else self.path

    def find(self, findings: Iterable[tuple[str, str, str]]) -> None:
        """Mistakes between options, as (section, option, sentence): see Finding."""
        for finding in findings:
            self.told[self.locate(Finding(*finding))] = None

    def locate(self, finding: Finding) -> Problem:
        """What was found in a section, with its line."""
        choice = self.chosen[finding.name].get(finding.option)
        line = choice.written.line if choice else self._heading_line(finding.name)
        return Problem(line, f"[{self._heading(finding.name)}] {finding.text}")

    def _heading(self, name: str) -> str:
        parts = self.lines[name].parts
        return parts[0].heading if parts else name

    def _heading_line(self, name: str) -> int:
        parts = self.lines[name].parts
        return parts[0].line if parts else 0

    # --- what is written, whether it counts here or not ---------------------------------------------------------------

    def check_written(self) -> None:
        """Looks at every value that needs no filling in, also one that is overridden or for another machine."""
        for line in self.lines.values():
            for part in line.parts[:1]:
                for name, by_host in part.options.items():
                    self._check_option(line.kind, part, name, by_host.values())

    def _check_option(self, kind: str, part: Part, name: str, values: Iterable[Written]) -> None:
        option = OPTIONS[kind].get(name)
        for written in values:
            if option is None:
                self.tell(written.line, f"[{part.heading}] {name}: there is no such option{_instead(kind, name)}")
            elif "$" not in written.text:
                try:
                    option.kind.parse(written.text)
                except ValueError as wrong:
                    self._tell_value(option, Choice(part, written), wrong)

    def _tell_value(self, option: Option, choice: Choice | None, wrong: ValueError) -> None:
        if not choice:
            self.defaults[Problem(0, f"{option.name} is not set, and its default does not do: {wrong}")] = None
        elif isinstance(wrong, Misread):
            for row, text in wrong.rows:
                self.tell(choice.written.line_of(row), f"[{choice.part.heading}] {option.name}: {text}")
        else:
            self.tell(choice.written.line, f"[{choice.part.heading}] {option.name}: {wrong}")

    # --- what counts here ---------------------------------------------------------------------------------------------

    def single(self, kind: str, declared: type[Single]) -> Single | None:
        """The section of a kind that is there once; None when a value of it is wrong."""
        values = self._values(kind)
        return None if values is None else declared(**values)

    def all_of(self, kind: str, declared: type[Named]) -> tuple[Named, ...]:
        """The sections of a kind, patterns and those with a wrong value left out."""
        found = []
        for name, line in self.lines.items():
            values = self._values(name) if line.kind == kind and name != kind else None
            if values is not None:
                section = declared(name=name, **values)
                if name not in self.parents or not any(checks.lacking(section)):
                    found.append(section)
        return tuple(found)

    def rewrites(self) -> tuple[RewriteSection, ...]:
        """Those that have a name; when there is none, [rewrite] itself, if it says anything, for all connectors."""
        named = any(line.kind == "rewrite" != name for name, line in self.lines.items())
        if named or not self.chosen["rewrite"]:
            return self.all_of("rewrite", RewriteSection)
        values = self._values("rewrite")
        return () if values is None else (RewriteSection(name="rewrite", **values),)

    def _values(self, name: str) -> dict[str, Any] | None:
        """Option -> value, where the class has no default of its own; None when one is wrong."""
        chosen, values, good = self.chosen[name], {}, True
        line = self._heading_line(name)
        self.origins[name, ""] = Origin(self._place(line), self._heading(name), "")
        for option in OPTIONS[self.lines[name].kind].values():
            choice = chosen.get(option.name)
            if choice is None and not option.derived:
                self.origins[name, option.name] = Origin(DEFAULT, self._heading(name), option.default)
                continue
            try:
                values[option.name] = self._value(name, option, choice)
            except ValueError as wrong:
                self._tell_value(option, choice, wrong)
                good = False
        return values if good else None

    def _value(self, name: str, option: Option, choice: Choice | None) -> Any:
        text = choice.written.text if choice else option.default
        if "$" in text:
            text = self.filling.text(name, option.name)
        place = self._place(choice.written.line) if choice else DEFAULT
        self.origins[name, option.name] = Origin(place, self._heading(name), text)
        if not text and option.derived and not choice:
            return text
        value = option.kind.parse(text)
        return option.kind.anchor(value, self.folder) if option.kind.anchor else value


def _instead(kind: str, name: str) -> str:
    """Where a mistyped or misplaced option may belong."""
    hint = nearest(name, tuple(OPTIONS[kind]))
    homes = [other for other in KINDS if name in OPTIONS[other]]
    if homes:
        return f" here; it belongs in a section of kind {' or '.join(homes)}"
    return hint or f"; {kind} has {', '.join(OPTIONS[kind])}"
