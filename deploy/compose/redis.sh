#!/bin/sh
# Start Redis as Overnight needs it: durable before it answers, never forgetting, with one user of narrow rights.
set -eu

case ${REDIS_PASSWORD:-} in
  '') echo "REDIS_PASSWORD is empty" >&2; exit 1 ;;
  *[!A-Za-z0-9._~-]*) echo "REDIS_PASSWORD: letters, digits and . _ ~ - only, since it stands in a URL" >&2; exit 1 ;;
esac

umask 077
cat > /run/redis/redis.conf <<CONF
dir /data
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
CONF
# By the shell itself: an argument of another command would be in `ps` for a moment.
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    *PASSWORD*) printf '%s%s%s\n' "${line%%PASSWORD*}" "$REDIS_PASSWORD" "${line#*PASSWORD}" ;;
    *) printf '%s\n' "$line" ;;
  esac
done < /etc/overnight/users.acl >> /run/redis/redis.conf
chown redis /run/redis /run/redis/redis.conf
unset REDIS_PASSWORD
exec docker-entrypoint.sh redis-server /run/redis/redis.conf
