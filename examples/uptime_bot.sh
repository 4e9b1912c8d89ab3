#!/bin/sh
# Answers `uptime` with how long this machine runs, and anything else with what it can do. Needs sealpost and jq:
#
#     SEALPOST_USER=uptime ./uptime_bot.sh
#
# `listen` receives and sends; `send` only writes into the outbox beside it. `listen` takes a message for shown when it has
# printed it: one that was printed and not answered when this ends is not answered. Where that matters, use the daemon.
set -eu

answer() {
    case "$1" in
        uptime) uptime ;;
        *) echo "I know one word: uptime" ;;
    esac
}

sealpost --json listen | while read -r line; do
    kind=$(printf '%s\n' "$line" | jq -r '"\(.event) \(.kind)"')
    if [ "$kind" != "message text" ]; then
        continue
    fi
    from=$(printf '%s\n' "$line" | jq -r .from)
    text=$(printf '%s\n' "$line" | jq -r .text)
    # From standard input: on the command line, others on this machine would see it.
    answer "$text" | sealpost send --wait queued "$from" - > /dev/null
done
