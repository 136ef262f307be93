"""What notices say in German. Values alone; see `wording`. Spans stand in the dative: nach 5 Tagen, seit 2 Stunden."""

from kmq.languages.wording import ELSE, Wording

_TOO_LARGE = (
    "Senden Sie eine kleinere Nachricht oder legen Sie den großen Teil dort ab, wo der Empfänger ihn abholen kann."
)

GERMAN = Wording(
    code="de",
    date="{day}.{month}.{year} um {time} UTC",
    days=("Tag", "Tagen"),
    hours=("Stunde", "Stunden"),
    minutes=("Minute", "Minuten"),
    subject_failed="Ihre Nachricht konnte nicht zugestellt werden",
    subject_delayed="Ihre Nachricht verspätet sich, ist aber nicht verloren",
    subject_delivered="Ihre Nachricht wurde zugestellt",
    subject_passed_on="Ihre Nachricht wurde weitergegeben",
    subject_copy="Eine Benachrichtigung konnte nicht zugestellt werden",
    failed="Diese Benachrichtigung kommt vom Mailserver {server}. Ihre Nachricht vom {date} konnte den unten"
    " genannten Empfängern nicht zugestellt werden, und für sie wird es nicht noch einmal versucht. Wer hier nicht"
    " genannt ist, ist nicht betroffen.",
    delayed="Diese Benachrichtigung kommt vom Mailserver {server}. Ihre Nachricht vom {date} konnte den unten"
    " genannten Empfängern noch nicht zugestellt werden. Weitere Versuche folgen von selbst: Sie brauchen nichts zu"
    " tun, und vor allem sollten Sie die Nachricht nicht noch einmal senden.",
    delivered="Diese Benachrichtigung kommt vom Mailserver {server}. Sie wollten wissen, ob Ihre Nachricht vom {date}"
    " angekommen ist. Sie wurde zugestellt:",
    passed_on="Diese Benachrichtigung kommt vom Mailserver {server}. Sie wollten wissen, ob Ihre Nachricht vom {date}"
    " angekommen ist. Sie wurde weitergegeben:",
    notice_lost="Diese Benachrichtigung kommt vom Mailserver {server}. Eine Benachrichtigung dieses Servers über die"
    " Nachricht {parent} konnte den unten genannten Empfängern nicht zugestellt werden. Niemand sonst darf davon"
    " benachrichtigt werden, deshalb geht diese Kopie an Sie; mehr geschieht nicht.",
    message_lost="Diese Benachrichtigung kommt vom Mailserver {server}. Eine Nachricht ohne Absender konnte den unten"
    " genannten Empfängern nicht zugestellt werden. Niemand sonst darf davon benachrichtigt werden, deshalb geht"
    " diese Kopie an Sie; mehr geschieht nicht.",
    in_mailbox="Sie liegt im Postfach.",
    relayed="Der Server {host} hat sie angenommen und geantwortet: {reply}\n"
    "Dieser Server verschickt keine Benachrichtigungen dieser Art. Sie hören also nur noch davon, wenn die Zustellung"
    " scheitert.",
    expanded="Diese Adresse steht für mehrere andere, und die Nachricht geht an alle weiter.",
    waiting="Seit {span} nicht zugestellt.",
    gave_up="Nach {span} haben wir die Versuche aufgegeben.",
    last_answer="Die letzte Antwort war: {reply}",
    last_answer_of="Die letzte Antwort des Servers {host} war: {reply}",
    refused="Der Server {host} hat geantwortet: {reply}",
    own_answer="Unser eigener Server meldet: {reply}",
    advised="Was Sie tun können: {advice}",
    advice={
        "1.1": "Prüfen Sie die Adresse auf Tippfehler: Ein solches Postfach gibt es nicht.",
        "1.2": "Prüfen Sie, was hinter dem @ steht: Eine solche Mail-Domain gibt es nicht.",
        "1.3": "Prüfen Sie die Adresse: Sie ist nicht so geschrieben wie eine Mailadresse.",
        "1.10": "Verwenden Sie eine andere Adresse: Diese Domain nimmt keine E-Mails an.",
        "2.2": "Versuchen Sie es später noch einmal oder wenden Sie sich auf anderem Weg an den Empfänger: Das"
        " Postfach ist voll.",
        "2.3": _TOO_LARGE,
        "3.4": _TOO_LARGE,
        "4.6": "Zeigen Sie diese Benachrichtigung Ihrem Mail-Administrator: Die Nachricht lief zwischen Servern im"
        " Kreis.",
        "4.7": "Senden Sie die Nachricht später noch einmal oder wenden Sie sich auf anderem Weg an den Empfänger:"
        " Während der ganzen Zeit ließ sie sich nicht zustellen.",
        "6.7": "Verwenden Sie eine Adresse ohne internationale Zeichen, falls der Empfänger eine hat.",
        "7.1": "Wenden Sie sich auf anderem Weg an den Empfänger: Sein Server hat Ihre Nachricht abgelehnt.",
        ELSE: "Lesen Sie die Antwort oben; wenn sie Ihnen nichts sagt, zeigen Sie diese Benachrichtigung Ihrem"
        " Mail-Administrator.",
    },
    until="Es wird bis zum {date} weiter versucht. Wenn auch das vergeblich ist, erhalten Sie eine weitere"
    " Benachrichtigung.",
    closing="Unten angefügt ist Ihre Nachricht oder nur ihr Kopf, davor stehen dieselben Angaben für Programme. Wenn"
    " Sie jemanden danach fragen, nennen Sie bitte die Kennung der Nachricht auf {server}: {id}",
    closing_copy="Was von ihr vorhanden ist, folgt unten; das Übrige steht im Protokoll unter ihrer Kennung {id}.",
    notice="Benachrichtigung",
    report="Zustellbericht",
    message="Ihre Nachricht",
    header="Der Kopf Ihrer Nachricht",
)
