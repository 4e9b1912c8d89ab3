#!/bin/sh
# How fast a file of MIB (50) MiB goes from one user to another by a broker on this machine: five times, with the programs in target/release, or PROGRAMS.
set -eu
programs=${PROGRAMS:-$(cd "$(dirname "$0")/.." && pwd)/target/release}
folder=$(mktemp -d)
running=
trap 'kill $running 2>/dev/null; wait; rm -rf "$folder"' EXIT
cd "$folder"
"$programs/sealpost-broker" --listen 127.0.0.1:28941 --data broker >broker.log 2>&1 &
running=$!
until grep -q 'listening on' broker.log; do sleep 0.05; done
alice() { "$programs/sealpost" --user alice --home alice --broker mqtt://127.0.0.1:28941 "$@"; }
bob() { "$programs/sealpost" --user bob --home bob --broker mqtt://127.0.0.1:28941 "$@"; }
{ alice keys init --no-passphrase; bob keys init --no-passphrase; bob send alice hello; } >/dev/null 2>&1
head -c "${MIB:-50}M" /dev/urandom >file
# Not the function: that would be a shell of its own, and what it runs would go on after it.
"$programs/sealpost" --user bob --home bob --broker mqtt://127.0.0.1:28941 --json listen >bob.log 2>&1 &
running="$running $!"
until grep -q connected bob.log; do sleep 0.05; done
for round in 1 2 3 4 5; do
    begin=$(date +%s%N)
    alice send --file file bob >/dev/null 2>&1
    end=$(date +%s%N)
    bob files cancel "$round" >/dev/null
    awk "BEGIN { s = ($end - $begin) / 1e9; printf \"%.2f s, %.1f MB/s\n\", s, ${MIB:-50} * 1.048576 / s }"
done
