#!/usr/bin/python3
"""A delivery agent, kmq-agent(5): puts each message into a folder, once for each recipient.

[NAME : connector]
type = agent
address_spaces = archive.example
command = /usr/lib/kmq/to-folder.py /srv/archive
"""

import json
import os
import shutil
import sys


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


say(type="hello", version=1)
for line in sys.stdin:
    said = json.loads(line)
    if said["type"] != "message":
        continue  # hello, and what a later version may say
    for one in said["recipients"]:
        # The name follows from the message: handed over twice, it is there once.
        name = os.path.join(sys.argv[1], f"{said['id']}.{one['index']}")
        try:
            shutil.copyfile(said["path"], name + ".new")
            os.rename(name + ".new", name)
            reply = "250 2.0.0 in the folder"
        except OSError as error:
            reply = f"451 4.3.0 {error.strerror}"
        say(n=said["n"], rcpt=[one["index"]], reply=reply)
