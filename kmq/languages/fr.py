"""What notices say in French. Values alone; see `wording`. A blank ahead of : ; ! ? is one that does not break."""

from kmq.languages.wording import ELSE, Wording

_TOO_LARGE = (
    "Envoyez un message moins volumineux, ou déposez la partie volumineuse là où le destinataire pourra la récupérer."
)

FRENCH = Wording(
    code="fr",
    date="{day}/{month}/{year} à {time} UTC",
    days=("jour", "jours"),
    hours=("heure", "heures"),
    minutes=("minute", "minutes"),
    subject_failed="Votre message n'a pas pu être remis",
    subject_delayed="Votre message est retardé, mais il n'est pas perdu",
    subject_delivered="Votre message a été remis",
    subject_passed_on="Votre message a été transmis",
    subject_copy="Un avis n'a pas pu être remis",
    failed="Cet avis vous est adressé par le serveur de messagerie {server}. Votre message du {date} n'a pas pu être"
    " remis aux destinataires ci-dessous, et aucune nouvelle tentative ne sera faite pour eux. Les destinataires qui"
    " ne sont pas nommés ici ne sont pas concernés.",
    delayed="Cet avis vous est adressé par le serveur de messagerie {server}. Votre message du {date} n'a pas encore"
    " pu être remis aux destinataires ci-dessous. De nouvelles tentatives auront lieu d'elles-mêmes\u00a0: vous"
    " n'avez rien à faire, et surtout ne renvoyez pas le message.",
    delivered="Cet avis vous est adressé par le serveur de messagerie {server}. Vous avez demandé à être informé de"
    " la remise de votre message du {date}. Il a été remis\u00a0:",
    passed_on="Cet avis vous est adressé par le serveur de messagerie {server}. Vous avez demandé à être informé de"
    " la remise de votre message du {date}. Il a été transmis\u00a0:",
    notice_lost="Cet avis vous est adressé par le serveur de messagerie {server}. Un avis de ce serveur au sujet du"
    " message {parent} n'a pas pu être remis aux destinataires ci-dessous. Personne d'autre ne peut en être averti,"
    " c'est pourquoi cette copie vous est adressée\u00a0; rien de plus ne sera fait.",
    message_lost="Cet avis vous est adressé par le serveur de messagerie {server}. Un message sans expéditeur n'a pas"
    " pu être remis aux destinataires ci-dessous. Personne d'autre ne peut en être averti, c'est pourquoi cette copie"
    " vous est adressée\u00a0; rien de plus ne sera fait.",
    in_mailbox="Il se trouve dans la boîte aux lettres.",
    relayed="Le serveur {host} l'a accepté avec cette réponse\u00a0: {reply}\n"
    "Ce serveur n'envoie pas d'avis de ce genre, vous n'aurez donc plus de nouvelles, sauf en cas d'échec.",
    expanded="C'est un alias de plusieurs adresses, et le message est transmis à toutes.",
    waiting="Non remis depuis {span}.",
    gave_up="Après {span} de tentatives, nous avons abandonné.",
    last_answer="La dernière réponse était\u00a0: {reply}",
    last_answer_of="La dernière réponse du serveur {host} était\u00a0: {reply}",
    refused="Le serveur {host} a répondu\u00a0: {reply}",
    own_answer="Notre propre serveur indique\u00a0: {reply}",
    advised="Ce que vous pouvez faire\u00a0: {advice}",
    advice={
        "1.1": "Vérifiez l'orthographe de l'adresse\u00a0: cette boîte aux lettres n'existe pas.",
        "1.2": "Vérifiez ce qui suit l'arobase (@)\u00a0: ce domaine de messagerie n'existe pas.",
        "1.3": "Vérifiez l'adresse\u00a0: elle n'est pas écrite comme une adresse électronique.",
        "1.10": "Utilisez une autre adresse\u00a0: ce domaine n'accepte pas de courrier.",
        "2.2": "Réessayez plus tard, ou joignez le destinataire par un autre moyen\u00a0: sa boîte aux lettres est"
        " pleine.",
        "2.3": _TOO_LARGE,
        "3.4": _TOO_LARGE,
        "4.6": "Montrez cet avis à votre administrateur de messagerie\u00a0: le message tournait en boucle entre des"
        " serveurs.",
        "4.7": "Renvoyez le message plus tard ou joignez le destinataire par un autre moyen\u00a0: la remise n'a pas"
        " abouti pendant toute la durée de nos tentatives.",
        "6.7": "Utilisez une adresse sans caractères internationaux, si le destinataire en a une.",
        "7.1": "Joignez le destinataire par un autre moyen\u00a0: son serveur a refusé votre message.",
        ELSE: "Lisez la réponse ci-dessus\u00a0; si elle ne vous apprend rien, montrez cet avis à votre"
        " administrateur de messagerie.",
    },
    until="Les tentatives se poursuivront jusqu'au {date}\u00a0; si elles échouent, vous recevrez un autre avis.",
    closing="Votre message ou son en-tête figure ci-dessous, précédé des mêmes informations pour les programmes. Si"
    " vous interrogez quelqu'un à ce sujet, indiquez l'identifiant du message sur {server}\u00a0: {id}",
    closing_copy="Ce qu'il en reste figure ci-dessous\u00a0; le journal dit le reste sous l'identifiant {id}.",
    notice="Notification",
    report="Rapport de remise",
    message="Votre message",
    header="L'en-tête de votre message",
)
