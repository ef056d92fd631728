#!/bin/sh
# Runs a command until standard input closes, which is when the tests end, however they end; then
# kills it and removes a folder. Arguments: the folder, or "" where nothing is to be removed; where
# the command's output goes; the command. Prints the command's process id.
trap '' INT HUP TERM
folder=$1
log=$2
shift 2
"$@" </dev/null >>"$log" 2>&1 &
command=$!
echo "$command"
cat >/dev/null
kill -KILL "$command" 2>/dev/null
wait "$command" 2>/dev/null
if [ -n "$folder" ]; then rm -rf "$folder"; fi
