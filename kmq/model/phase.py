"""The phases of a message in their fixed order (Kerio Connect's), as its status shows them.

Law: everything about order and following of phases stands here. A phase that is switched off is left out, never
     reordered; a pair that FOLLOWING does not have is a mistake in the program.
"""

from enum import Enum


class Phase(Enum):
    """What is being done to a message; the value is the text that people see and that files hold."""

    EXECUTING = "Executing"  #: taken up, parsed, categorized
    BACKUP = "Backup"  #: archived
    CONTENT = "Content filtering"  #: attachments and rules
    ANTIVIRUS = "Antivirus control"  #: scanners
    LOCAL = "Local delivery"  #: into a local mailbox
    SMTP = "SMTP delivery"  #: to another server
    TERMINATING = "Terminating"  #: results recorded, notices made, files removed

    def __init__(self, text: str) -> None:
        self.text = text  #: the value again, at a tenth of the price: `value` is a property


ORDER = tuple(Phase)

#: Which phase may come after which: any later one, since phases may be switched off or not apply.
FOLLOWING = {phase: ORDER[place + 1 :] for place, phase in enumerate(ORDER)}

#: Phases that work on bytes of this machine alone: a worker that dies in one of them may have died of the message.
LOCAL_BYTES = frozenset({Phase.EXECUTING, Phase.BACKUP, Phase.CONTENT, Phase.ANTIVIRUS, Phase.LOCAL, Phase.TERMINATING})
