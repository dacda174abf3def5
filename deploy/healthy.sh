#!/bin/sh
# Whether a part is well, at the price of a few system calls: `healthy`, or `healthy PORT` for one that serves HTTP.
#
# A worker and a beat touch a file as they go round (workers/heartbeat.py); one that has not for half a minute is
# stuck or cannot reach its server.
set -eu

if [ $# -eq 0 ]; then
  beat=$(stat -c %Y "${OVERNIGHT_HEARTBEAT:?}" 2>/dev/null) || { echo "no heartbeat yet"; exit 1; }
  age=$(($(date +%s) - beat))
  [ "$age" -le 30 ] || { echo "no heartbeat for $age s"; exit 1; }
else
  exec bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET %s HTTP/1.0\r\n\r\n" "$1" >&3 && read -r _ status _ <&3 \
    && [ "$status" = 200 ] || { echo "answers ${status:-nothing}"; exit 1; }' "$1" "${2:-/healthcheck}"
fi
