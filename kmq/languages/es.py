"""What notices say in Spanish. Values alone; see `wording`."""

from kmq.languages.wording import ELSE, Wording

_TOO_LARGE = "Envíe un mensaje más pequeño o deje la parte grande donde el destinatario pueda descargarla."

SPANISH = Wording(
    code="es",
    date="{day}/{month}/{year} a las {time} UTC",
    days=("día", "días"),
    hours=("hora", "horas"),
    minutes=("minuto", "minutos"),
    subject_failed="No se ha podido entregar su mensaje",
    subject_delayed="Su mensaje se retrasa, pero no se ha perdido",
    subject_delivered="Su mensaje se ha entregado",
    subject_passed_on="Su mensaje se ha transmitido",
    subject_copy="No se ha podido entregar un aviso",
    failed="Este es un aviso del servidor de correo {server}. Su mensaje del {date} no se ha podido entregar a los"
    " destinatarios que figuran más abajo, y no se volverá a intentar con ellos. Quien no figura aquí no está"
    " afectado.",
    delayed="Este es un aviso del servidor de correo {server}. Su mensaje del {date} todavía no se ha podido entregar"
    " a los destinatarios que figuran más abajo. Se volverá a intentar automáticamente: no tiene que hacer nada y,"
    " sobre todo, no vuelva a enviarlo.",
    delivered="Este es un aviso del servidor de correo {server}. Usted pidió que se le informara de la entrega de su"
    " mensaje del {date}. Se ha entregado:",
    passed_on="Este es un aviso del servidor de correo {server}. Usted pidió que se le informara de la entrega de su"
    " mensaje del {date}. Se ha transmitido:",
    notice_lost="Este es un aviso del servidor de correo {server}. Un aviso de este servidor sobre el mensaje"
    " {parent} no se ha podido entregar a los destinatarios que figuran más abajo. No se puede informar de ello a"
    " nadie más; por eso esta copia se le envía a usted, y no se hará nada más.",
    message_lost="Este es un aviso del servidor de correo {server}. Un mensaje sin remitente no se ha podido entregar"
    " a los destinatarios que figuran más abajo. No se puede informar de ello a nadie más; por eso esta copia se le"
    " envía a usted, y no se hará nada más.",
    in_mailbox="Está en el buzón.",
    relayed="El servidor {host} lo ha aceptado con esta respuesta: {reply}\n"
    "Ese servidor no envía avisos de este tipo, así que no tendrá más noticias, salvo que falle la entrega.",
    expanded="Es un alias de varias direcciones, y el mensaje sigue su camino hacia todas ellas.",
    waiting="Sin entregar desde hace {span}.",
    gave_up="Lo hemos intentado durante {span} y hemos desistido.",
    last_answer="La última respuesta fue: {reply}",
    last_answer_of="La última respuesta del servidor {host} fue: {reply}",
    refused="El servidor {host} respondió: {reply}",
    own_answer="Nuestro propio servidor dice: {reply}",
    advised="Lo que puede hacer: {advice}",
    advice={
        "1.1": "Compruebe que la dirección esté bien escrita: ese buzón no existe.",
        "1.2": "Compruebe lo que va detrás de la @: ese dominio de correo no existe.",
        "1.3": "Compruebe la dirección: no está escrita como una dirección de correo.",
        "1.10": "Utilice otra dirección: ese dominio no acepta correo.",
        "2.2": "Inténtelo más tarde o póngase en contacto con el destinatario por otro medio: el buzón está lleno.",
        "2.3": _TOO_LARGE,
        "3.4": _TOO_LARGE,
        "4.6": "Muestre este aviso a su administrador de correo: el mensaje daba vueltas entre servidores en un bucle.",
        "4.7": "Envíelo de nuevo más tarde o póngase en contacto con el destinatario por otro medio: no se ha podido"
        " entregar en todo el tiempo en que lo hemos intentado.",
        "6.7": "Utilice una dirección sin caracteres internacionales, si el destinatario tiene una.",
        "7.1": "Póngase en contacto con el destinatario por otro medio: su servidor ha rechazado el mensaje.",
        ELSE: "Lea la respuesta que figura más arriba; si no le aclara nada, muestre este aviso a su administrador de"
        " correo.",
    },
    until="Se seguirá intentando hasta el {date}; si no se consigue, recibirá otro aviso.",
    closing="Más abajo encontrará su mensaje o su cabecera y, antes, los mismos datos para programas. Si pregunta a"
    " alguien por ello, indique el identificador del mensaje en {server}: {id}",
    closing_copy="Lo que hay de él figura más abajo; el registro cuenta el resto con su identificador {id}.",
    notice="Notificación",
    report="Informe de entrega",
    message="Su mensaje",
    header="La cabecera de su mensaje",
)
