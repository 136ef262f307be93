"""All languages, by code.

Promise:  loaded as a whole by whoever tells people anything, at his start: a process may give up its files afterwards.
Callers:  run.notices.
"""

from collections.abc import Mapping

from kmq.languages.de import GERMAN
from kmq.languages.en import ENGLISH
from kmq.languages.es import SPANISH
from kmq.languages.fr import FRENCH
from kmq.languages.wording import Wording

WORDINGS: Mapping[str, Wording] = {one.code: one for one in (ENGLISH, GERMAN, SPANISH, FRENCH)}
