#!/bin/sh
# A delivery agent, kmq-agent(5): runs a command for each message, which reads it from its standard input and ends with
# 0 when it is delivered, with 75 when it is to be tried again later, and with another status when it is not wanted.
#
# [NAME : connector]
# type = agent
# address_spaces = fax.example
# command = /usr/lib/kmq/to-command.sh /usr/bin/sendfax -n
echo '{"type":"hello","version":1}'
while read -r line; do
    case $line in '{"type":"message"'*) ;; *) continue ;; esac
    n=$(printf '%s\n' "$line" | sed 's/.*"n":\([0-9]*\),.*/\1/')
    path=$(printf '%s\n' "$line" | sed 's/.*"path":"\([^"]*\)".*/\1/')
    "$@" <"$path" >&2
    case $? in
        0) reply="250 2.0.0 done" ;;
        75) reply="451 4.3.0 not now" ;;
        *) reply="554 5.3.0 refused by the command" ;;
    esac
    printf '{"n":%s,"reply":"%s"}\n' "$n" "$reply"
done
