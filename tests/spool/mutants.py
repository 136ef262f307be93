"""The rules of the journal, each left out once: the code that carries it, and the story that shows that it is needed.

What:     a mutant is the production code with one clause cut out of its text; `Mutant.code` makes it. A clause that is
          not there any more (the code was changed) is an error, not a mutant that nobody can kill.
Callers:  test_mutants.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

from kmq.model import envelope
from kmq.spool import archive, checkpoint, departures, effects, homes, journal, record, recovery, store
from tests.spool import stories
from tests.spool.life import Story


@dataclass(frozen=True)
class Mutant:
    """A rule's number and clause; the function that carries it; what stands there, and what stands there instead.

    instead: a whole function, where no cut does. story, seeds, depth: the way of Explorer that shows it; where there
    is no story random walks do.
    """

    rule: str
    owner: object
    name: str
    cuts: tuple[tuple[str, str], ...]
    story: Story | None = None
    kind: str = "journal"
    seeds: int = 4
    depth: float = 0.0
    more: tuple["Mutant", ...] = field(default=())
    instead: Callable[..., object] | None = None

    def code(self) -> Callable[..., object]:
        """The function without the clause."""
        if self.instead:
            return self.instead
        function = inspect.unwrap(getattr(self.owner, self.name))
        text = textwrap.dedent(inspect.getsource(function))
        for old, new in self.cuts:
            assert text.count(old) == 1, f"{self.rule}: {self.name} has {text.count(old)} times {old!r}"
            text = text.replace(old, new)
        module = sys.modules[function.__module__]
        made: dict[str, object] = {}
        exec(compile(text, f"<{self.rule}>", "exec"), module.__dict__, made)
        code = made[self.name]
        assert callable(code)
        return code

    def apply(self, patch: Callable[[object, str, object], None]) -> None:
        """`patch` is pytest's monkeypatch.setattr."""
        patch(self.owner, self.name, self.code())
        for other in self.more:
            other.apply(patch)


def spread(self: journal.Journal, payloads: list[record.Encoded]) -> int:
    """Journal.write, as it would be if a batch could begin in one segment and end in the next with one sync."""
    for payload in payloads:
        at = self._offset
        if at + journal._padded(payload.length + record.HEADER.size) > self.size:
            self.turn()
            at = self._offset
        text = b"".join((record.heading(payload, self.generation, self.number, at), *payload.parts))
        self.disk.write_at(self._fd, [text.ljust(journal._padded(len(text)), b"\0")], at)
        self._offset += journal._padded(len(text))
        self.number += 1
    self._sync()
    return self.generation


Log, Apply, Files = journal.Journal, effects.Effects, homes.Homes
Kept, Recover, Noted = store.JournalStore, recovery.Recovery, checkpoint.Note
SYNC_ALL = "sync_all(self.disk, self.note)"

MUTANTS = (
    # --- J1 ---------------------------------------------------------------------------------------------------------
    Mutant("J1 answer before sync", Log, "write", (("self._sync()", "pass"),), stories.accept),
    Mutant(
        "J1 effects before sync",
        Kept,
        "sync",
        (
            (
                "generation = self.log.write(payloads)",
                "self.effects.add(Durable(self.log.generation, one.operations, one.at) for one in batch)\n"
                "    while self.effects.apply_next(): pass\n"
                "    generation = self.log.write(payloads)",
            ),
        ),
        stories.results,
    ),
    Mutant(
        "J1 envelope first",
        Apply,
        "_make",
        (
            ("    self.homes.make_body(put, again)\n", ""),
            (
                "self.homes.make(envelope, put.line, again)",
                "self.homes.make(envelope, put.line, again)\n    self.homes.make_body(put, again)",
            ),
        ),
        stories.accept,
    ),
    Mutant(
        "J1 cancelling forgets the dropped file",
        Apply,
        "_put",
        (("if put.dropped:", "if put.dropped and put.id not in self._doomed:"),),
        stories.dropped,
    ),
    Mutant(
        "J1 a half-made put is cancelled",
        Apply,
        "_begin",
        (("self._fresh.pop(operation.id, None)", "pass"),),
        stories.full_then_removed,
    ),
    Mutant(
        "J1 a remove that is not durable cancels",
        store.Store,
        "add",
        (
            (
                "refusable, self._encoded(operations)))",
                "refusable, self._encoded(operations)))\n    self.effects._doomed |= {op.id for op in operations "
                "if isinstance(op, Remove) and op.id in self.effects._fresh}",
            ),
        ),
        stories.remove_waits,
    ),
    # --- J2 ---------------------------------------------------------------------------------------------------------
    Mutant(
        "J2 generation not checked",
        record,
        "unframe",
        (("found != generation or ", ""), ("pack(generation, number", "pack(found, number")),
        stories.generations,
        more=(
            Mutant(
                "its one reader",
                journal,
                "read_segment",
                (("_goes_on(text, at, generation, number)", "False"),),
                stories.accept,
            ),
        ),
    ),
    Mutant(
        "J2 no first number", journal, "valid", (("        del have[segment.first - 1 :]\n", ""),), stories.failed_sync
    ),
    Mutant("J2 name not durable", Log, "_take", (('    self.disk.sync_folder("journal")\n', ""),), stories.accept),
    Mutant("J2 header not durable", Log, "_open", (("    self._sync()", "    pass"),), stories.failed_put, seeds=30),
    Mutant(
        "J2 numbers from the log only",
        envelope.State,
        "after",
        (("self.next_seq = max(self.next_seq, event.seq + 1)", "pass"),),
        stories.restarted,
    ),
    # --- J3 ---------------------------------------------------------------------------------------------------------
    Mutant("J3 old tail not synced", Log, "write", (), stories.generations, instead=spread),
    Mutant(
        "J3 effects not awaited",
        Apply,
        "finished",
        (("return min(waiting, owed) > generation", "return True"),),
        stories.covered_early,
    ),
    Mutant("J3 no syncfs", Kept, "checkpoint", ((SYNC_ALL, "pass"),), stories.accept),
    Mutant(
        "J3 file before syncfs",
        Kept,
        "checkpoint",
        ((SYNC_ALL, f"checkpoint.write(self.disk, generation + 1, self.last_id + 1)\n    {SYNC_ALL}"),),
        stories.accept,
    ),
    Mutant(
        "J3 recycled before the file is durable",
        Kept,
        "checkpoint",
        (
            (
                SYNC_ALL,
                f"{SYNC_ALL}\n    self.log.recycle(file for made, _, file in journal.segment_names(self.disk) "
                "if made <= generation)",
            ),
        ),
        stories.all_delivered,
    ),
    Mutant(
        "J3 an owed effect does not hold",
        Apply,
        "finished",
        (("return min(waiting, owed) > generation", "return waiting > generation"),),
        stories.full("create"),
    ),
    Mutant("J3 checkpoint file not synced", checkpoint, "write", (("disk.sync(fd)", "pass"),), stories.all_delivered),
    Mutant(
        "J3 checkpoint's name not synced",
        checkpoint,
        "write",
        (('    disk.sync_folder("journal")\n', ""),),
        stories.all_delivered,
    ),
    # --- J4 ---------------------------------------------------------------------------------------------------------
    Mutant(
        "J4 no newline before a line",
        Files,
        "append",
        (('b"\\n" + line', 'line + b"\\n"'),),
        stories.full("append", half=True),
        more=(Mutant("its head", Apply, "_make", (("put.line,", 'put.line + b"\\n",'),), stories.accept),),
    ),
    Mutant(
        "J4 no move line",
        Files,
        "enter",
        (('        self.disk.append(envelope, b"\\n" + move.line)', "        pass"),),
        stories.poison,
    ),
    Mutant(
        "J4 old names go before the new are durable",
        Apply,
        "_move",
        (("    self.homes.sync_names(move.id, move.home)", "    pass"),),
        stories.poison,
    ),
    Mutant(
        "J4 the new folder's name is not durable",
        Files,
        "sync_names",
        (('            self.disk.sync_folder("queue")', "            pass"),),
        stories.poison,
        seeds=8,
    ),
    Mutant(
        "J4 lines without sequence number",
        recovery,
        "_merged",
        (("{_seq_of(line) for line in lines[1:]}", "set()"),),
        stories.results,
    ),
    Mutant(
        "J4 names in the queue go before those in sent/ are durable",
        departures.Departures,
        "_sync",
        (("                disk.sync_folder(place)", "                pass"),),
        stories.kept_later,
    ),
    Mutant(
        "J4 the day's folder is not durable",
        departures.Departures,
        "_sync",
        (("        disk.sync_folder(layout.SENT)\n", ""),),
        stories.kept_later,
        seeds=8,
    ),
    Mutant(
        "J1 cancelled mail is not gathered for the net",
        Apply,
        "_follows_a_put",
        (("elif isinstance(operation, Keep):", "elif False:"),),
        stories.kept_fresh,
    ),
    Mutant(
        "J3 what is gathered for the net does not hold",
        Apply,
        "finished",
        (("self.gathering.finished(generation) and ", ""),),
        stories.kept_fresh,
    ),
    Mutant(
        "J5 what is kept is removed",
        Recover,
        "_plan",
        (("if one.kept:", "if False:"),),
        stories.kept_later,
    ),
    Mutant(
        "J5 half-made names stay in sent/",
        Recover,
        "_recover",
        (("    strays.sweep_kept(self.disk, {place for one in traced.values() for place in one.places})\n", ""),),
        stories.kept_later,
        seeds=1,
        depth=0.3,
    ),
    Mutant(
        "J4b names in the queue go before what is archived is durable",
        departures.Departures,
        "_sync",
        (("disk.sync_all()", "pass"),),
        stories.archived_later,
    ),
    Mutant(
        "J4b the names of what is archived are durable, its envelope is not",
        departures.Departures,
        "_sync",
        (("if not all(place.startswith(_KEPT) for place in places):", "if False:"),),
        stories.archived_later,
    ),
    Mutant(
        "J4b a removal does not wait for the archive",
        Apply,
        "_remove",
        (("if self.departures.leaves(generation, number):", "if False:"),),
        stories.archived_later,
    ),
    Mutant(
        "J4b what is archived is cancelled",
        Apply,
        "_follows_a_put",
        (("self._archived.add(operation.id)", "pass"),),
        stories.archived_fresh,
    ),
    Mutant(
        "J4b recovery forgets what is archived",
        Recover,
        "_plan",
        (("for place, seq in one.archived.items():", "for place, seq in ():"),),
        stories.archived_fresh,
    ),
    Mutant(
        "J4b the archived envelope goes on growing",
        archive,
        "up_to",
        ((" and found <= seq", ""),),
        stories.archived_fresh,
    ),
    Mutant(
        "J4b the archived envelope is the queue's, and that goes on for the net",
        effects,
        "_ending",
        (("removed.difference(operation.id for operation in operations if isinstance(operation, Keep))", "removed"),),
        stories.archived_in_one_go,
    ),
    Mutant(
        "J4b a line of what is archived goes with the queue's file",
        effects,
        "_outliving",
        ((" and operation.id not in archived", ""),),
        stories.archived_in_one_go,
    ),
    Mutant(
        "J3 what is gathered for the archive does not hold",
        Apply,
        "finished",
        (("self.gathering.finished(generation) and ", ""),),
        stories.archived_and_gone_before_a_checkpoint,
    ),
    Mutant(
        "J4b what is archived and gone at once is made nowhere",
        Apply,
        "_follows_a_put",
        (("if operation.id in self._archived:", "if False:"),),
        stories.archived_in_one_go,
    ),
    Mutant(
        "J3 who is leaving does not hold",
        Apply,
        "finished",
        ((" and self.departures.finished(generation)", ""),),
        stories.archived_and_leaving,
    ),
    Mutant(
        "FileStore: what is archived is not durable before anything says so",
        store.FileStore,
        "_archive",
        (("        sync_all(self.disk, self.note)", "        pass"),),
        stories.archived_later,
        "files",
    ),
    # --- J5 ---------------------------------------------------------------------------------------------------------
    Mutant(
        "J5 acts on an unsynced tail",
        Recover,
        "_keep_tail",
        ((".copy(newest, max(serials) + 1)", ""),),
        stories.failed_put,
        seeds=0,
        depth=3.0,
    ),
    Mutant(
        "J5 tail only synced again",
        Recover,
        "_keep_tail",
        (
            (
                "Journal(self.disk, self._size, newest.generation).copy(newest, max(serials) + 1)",
                "fd = self.disk.update(newest.file)\n    self.disk.datasync(fd)\n    self.disk.close_file(fd)",
            ),
        ),
        stories.failed_put,
        seeds=0,
        depth=3.0,
    ),
    Mutant(
        "J5 copy under a segment's name",
        Log,
        "copy",
        (
            (
                "fd = self.disk.update(spare)",
                "file = name(old.generation, serial)\n"
                "    self.disk.rename(spare, file)\n"
                '    self.disk.sync_folder("journal")\n'
                "    fd = self.disk.update(file)",
            ),
            ("    self.disk.rename(spare, name(old.generation, serial))\n", ""),
        ),
        stories.accept,
        seeds=0,
        depth=3.0,
    ),
    Mutant(
        "J5 remove not first",
        Recover,
        "_plan",
        (("plan.gone.append(layout.reason(number))\n        return plan", "plan.gone.append(layout.reason(number))"),),
        stories.large,
    ),
    Mutant(
        "J5 repair without sync",
        Recover,
        "_recover",
        (
            (
                "    self._sync()\n    for plan in plans.values():\n        self._rename(plan)",
                "    for plan in plans.values():\n        self._rename(plan)",
            ),
        ),
        stories.deferred_later,
        seeds=0,
        depth=3.0,
    ),
    Mutant(
        "J5 no syncfs before names go",
        Recover,
        "_recover",
        (("    self._sync()\n    set_aside", "    set_aside"),),
        stories.moved_later,
        seeds=1,
        depth=1.0,
    ),
    Mutant(
        "J5 no syncfs before the checkpoint",
        Recover,
        "_recover",
        (("    self._sync()\n    strays.sweep_folders", "    strays.sweep_folders"),),
        stories.results,
    ),
    # --- J6 ---------------------------------------------------------------------------------------------------------
    Mutant(
        "J6 name in incoming/ unlinked early",
        Apply,
        "_put",
        (("self.incoming.append((generation, put.incoming))", 'self.homes.unlink(f"incoming/{put.incoming}")'),),
        stories.large,
    ),
    Mutant(
        "J6 swept under a living receiver",
        Recover,
        "_sweep_incoming",
        (("and not self.lives(name) ", ""),),
        stories.large,
    ),
    # --- J7 ---------------------------------------------------------------------------------------------------------
    Mutant(
        "J7 syncfs tried again",
        store,
        "sync_all",
        (
            (
                "disk.sync_all()",
                "try:\n            disk.sync_all()\n        except OSError:\n            disk.sync_all()",
            ),
        ),
        stories.failed_syncfs,
    ),
    Mutant("J7 no note", Noted, "around", (("self.make()", "pass"),), stories.failed_syncfs),
    Mutant(
        "J7 note gone before all is written anew",
        Recover,
        "_sync",
        (("keep_note=self.rewrite", "keep_note=False"),),
        stories.failed_checkpoint,
        seeds=0,
        depth=3.0,
    ),
    Mutant(
        "J7 names not made and unlinked",
        Recover,
        "_drop",
        (("if not there and alone:", "if False:"), ("if there or alone:", "if there:")),
        stories.failed_syncfs,
    ),
    Mutant(
        "J7 envelopes not written anew",
        Recover,
        "_plan",
        (("if self.rewrite or not found", "if not found"),),
        stories.failed_syncfs,
    ),
    Mutant(
        "J7 bodies not written anew",
        Recover,
        "_plan_body",
        (("if whole is not None and not self.rewrite:", "if whole is not None:"),),
        stories.failed_syncfs,
    ),
    # --- J8 ---------------------------------------------------------------------------------------------------------
    Mutant(
        "J8 the same segment is synced again",
        Log,
        "_sync",
        (
            (
                "self.disk.datasync(self._fd)",
                "try:\n        self.disk.datasync(self._fd)\n    except OSError:\n        self.disk.datasync(self._fd)",
            ),
        ),
        stories.failed_sync,
    ),
    Mutant(
        "J8 records not written again",
        store.Store,
        "refuse",
        (("    self.pending.extendleft(reversed(again))\n", ""),),
        stories.failed_sync,
    ),
    # --- J11 --------------------------------------------------------------------------------------------------------
    Mutant(
        "J11 the checkpoint's next ID is ignored",
        Recover,
        "_recover",
        (("known.next_id - 1 if known else 0, ", "0, "),),
        stories.all_delivered,
    ),
    Mutant("J11 the journal's IDs are ignored", Recover, "_recover", (("*traced, ", ""),), stories.all_delivered),
    # --- J12 --------------------------------------------------------------------------------------------------------
    Mutant(
        "J12 recovery leaves the dropped file",
        Recover,
        "_leavings",
        (("if one.put and one.put.dropped and", "if False and"),),
        stories.dropped,
    ),
    Mutant(
        "J12 recovery leaves the dropped file of a removed message",
        Recover,
        "_leavings",
        (("if one.put and one.put.dropped and", "if one.put and one.put.dropped and not one.removed and"),),
        stories.dropped,
    ),
    Mutant(
        "J12 no refusal",
        Apply,
        "claim",
        (("dropped in self._dropped or ", ""),),
        stories.twice_offered,
    ),
    Mutant(
        "J12 another file system is not synced",
        Files,
        "_sync_elsewhere",
        (('    self.disk.sync_folder(name.rpartition("/")[0])', "    pass"),),
        stories.dropped_elsewhere,
    ),
    # --- J13 --------------------------------------------------------------------------------------------------------
    Mutant(
        "J13 later effects of the message do not wait",
        Apply,
        "_apply_or_owe",
        (("    queue = self.owed.get(operation.id)\n", "    queue = None\n"),),
        stories.owed_then_deferred,
    ),
    # --- without a journal ------------------------------------------------------------------------------------------
    Mutant(
        "FileStore: bodies are not durable before their envelopes",
        store.FileStore,
        "_prepare",
        (("        sync_all(self.disk, self.note)", "        pass"),),
        stories.accept,
        "files",
    ),
    Mutant(
        "FileStore: bodies go with their envelopes",
        store.FileStore,
        "_commit",
        (
            (
                "self._homes.unlink(layout.envelope(operation.id, home))",
                "self._homes.unlink(layout.envelope(operation.id, home))\n"
                "                self._homes.unlink(layout.body(operation.id, home))",
            ),
        ),
        stories.results,
        "files",
    ),
    Mutant(
        "FileStore: dropped files go before their messages are durable",
        store.FileStore,
        "_prepare",
        (
            (
                "self._homes.make(layout.unborn(put.id), put.line, again=True)",
                "self._homes.make(layout.unborn(put.id), put.line, again=True)\n"
                "        if put.dropped:\n            self._homes.unlink_dropped(put.dropped)",
            ),
        ),
        stories.dropped,
        "files",
    ),
    Mutant(
        "FileStore: a put whose second step was begun is not carried through",
        Recover,
        "_trace_plain",
        (('if ending == "put":', "if False:"),),
        stories.notice,
        "files",
        seeds=20,
    ),
)
