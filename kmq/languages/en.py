"""What notices say in English. Values alone; see `wording`."""

from kmq.languages.wording import ELSE, Wording

_TOO_LARGE = "Send a smaller message, or put the large part where the recipient can fetch it."

ENGLISH = Wording(
    code="en",
    date="{year}-{month}-{day} {time} UTC",
    days=("day", "days"),
    hours=("hour", "hours"),
    minutes=("minute", "minutes"),
    subject_failed="Your message could not be delivered",
    subject_delayed="Your message is delayed, but not lost",
    subject_delivered="Your message was delivered",
    subject_passed_on="Your message was passed on",
    subject_copy="A notice could not be delivered",
    failed="This is the mail server {server}. Your message of {date} could not be delivered to the recipients below,"
    " and is not tried again for them. Whoever is not named here is not concerned.",
    delayed="This is the mail server {server}. Your message of {date} has not been delivered yet to the recipients"
    " below. It is tried again by itself: you need not do anything, and least of all send it again.",
    delivered="This is the mail server {server}. Your message of {date} was delivered, as you wished to be told:",
    passed_on="This is the mail server {server}. Your message of {date} was passed on, as you wished to be told:",
    notice_lost="This is the mail server {server}. A notice of this server about the message {parent} could not be"
    " delivered to the recipients below. Nobody else may be told of it, so this copy goes to you, and nothing further"
    " is done.",
    message_lost="This is the mail server {server}. A message without sender could not be delivered to the recipients"
    " below. Nobody else may be told of it, so this copy goes to you, and nothing further is done.",
    in_mailbox="It is in the mailbox.",
    relayed="The server {host} has taken it on, with the answer: {reply}\n"
    "That server sends no notices of this kind, so you will hear no more unless it fails.",
    expanded="This is an alias of several addresses, and the message goes on to all of them.",
    waiting="Not delivered for {span} now.",
    gave_up="We tried for {span} and gave up.",
    last_answer="The last answer was: {reply}",
    last_answer_of="The last answer of the server {host} was: {reply}",
    refused="The server {host} answered: {reply}",
    own_answer="Our own server says: {reply}",
    advised="What you can do: {advice}",
    advice={
        "1.1": "Check the address for spelling mistakes: there is no such mailbox.",
        "1.2": "Check what stands behind the @: there is no such mail domain.",
        "1.3": "Check the address: it is not written as mail addresses are.",
        "1.10": "Use another address: this domain takes no mail.",
        "2.2": "Try again later, or reach the recipient in another way: the mailbox is full.",
        "2.3": _TOO_LARGE,
        "3.4": _TOO_LARGE,
        "4.6": "Show this notice to your postmaster: the message went round between servers in a mail loop.",
        "4.7": "Send it again later, or ask the recipient in another way: it could not be delivered for"
        " as long as we tried.",
        "6.7": "Use an address without international characters, if the recipient has one.",
        "7.1": "Ask the recipient in another way: the server there refused your message.",
        ELSE: "Read the answer above; if it tells you nothing, show this notice to your postmaster.",
    },
    until="It is tried until {date}; if that is in vain, you will be told.",
    closing="Your message or its header follows below, and before it the same for programs. If you ask somebody about"
    " this, name the message's ID at {server}: {id}",
    closing_copy="What there is of it follows below; the log tells the rest under its ID {id}.",
    notice="Notification",
    report="Delivery report",
    message="Your message",
    header="The header of your message",
)
