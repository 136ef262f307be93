"""From a local part to a mailbox: the user's name, and the folder that a template makes of it.

Promise:  a user name is one plain path component: it cannot leave its folder, hide, or carry a route to elsewhere
          (`%`, `!`, `@`). So whoever fills a template with it gets a path below the template's root.
"""

#: alice+lists is alice (RFC 5233 calls the rest the detail).
DELIMITER = "+"

#: Every domain has one, whatever the configuration says (RFC 5321 4.5.1).
POSTMASTER = "postmaster"

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-=&'#~^")


def user_of(local_part: str) -> str | None:
    """The user whose mailbox a local part (unquoted) means, lower case; None when it can be no user's name."""
    user, _, _ = local_part.lower().partition(DELIMITER)
    if user.isascii() and user.isalnum():
        return user if len(user) <= 64 else None
    if not user or user[0] == "." or len(user.encode(errors="replace")) > 64:
        return None
    plain = all(letter in _PLAIN or (letter > "\x7f" and letter.isprintable()) for letter in user)
    return user if plain else None


def folder(template: str, user: str, domain: str) -> str:
    """The Maildir of a user in a domain: the template with {user} and {domain} filled in.

    The domain goes first: it is one of the configuration's, so a user called "{domain}" changes nothing.
    """
    return template.replace("{domain}", domain).replace("{user}", user)
