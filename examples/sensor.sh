#!/bin/sh
# Measures this machine every so many seconds (60) and writes a JSON object a line, for sealpost-device:
#
#     ./sensor.sh 10 | sealpost-device --user thermo --to 'sealpost:contact?…'
#
# Anything that writes lines is a sensor. When it ends, sealpost-device sends what is left and ends, too.
set -eu

interval=${1:-60}

while read -r load _ < /proc/loadavg; do
    free=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    printf '{"load":%s,"free_kib":%s}\n' "$load" "$free"
    sleep "$interval"
done
