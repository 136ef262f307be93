"""How long an SMTP server may take, for each thing that it is asked.

Promise:  every stage of a transaction has a limit. Pure.
On crash: nothing is kept.
Callers:  phases.connection.
"""

from kmq.config.sections import ConnectorSection
from kmq.phases.transaction import Stage

QUIT_PATIENCE = 5.0  #: seconds that a server has to answer QUIT


def stage_limits(section: ConnectorSection) -> dict[Stage, float]:
    """How long each stage may last without progress, in seconds (RFC 5321 4.5.3.2)."""
    return {
        Stage.RESET: section.mail_timeout,
        Stage.MAIL: section.mail_timeout,
        Stage.RCPT: section.rcpt_timeout,
        Stage.SKIP: section.rcpt_timeout,
        Stage.DATA: section.data_timeout,
        Stage.BODY: section.data_timeout,
        Stage.DOT: section.final_timeout,
        Stage.EMPTY: section.final_timeout,
    }
