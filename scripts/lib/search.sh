# shellcheck shell=bash
# Searches for a request whose answer is not as docs/openapi.yaml says. Sourced after servers.sh and contracts.sh.

# How long the search may take, beside the time to set it up.
search_seconds=60

# search_for_surprises LOG: starts the service on a store and a NATS of its own and has schemathesis ask it. Runs in a
# subshell, whose end is the end of what it started.
search_for_surprises() (
  local log=$1 port status=0
  setup_python contracts || return
  begin_session 130
  start_store "$data/store"
  start_nats "$data/nats"
  export REDIS_URL=$redis_url NATS_URL=$nats_url LOG_FORMAT=json
  port=$(free_port)
  start_service "$port" "$data/service.log"

  cd "$data"
  PYTHONPATH=$root/scripts/lib PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=fresh_users \
    "$local_dir/contracts/bin/schemathesis" run "$root/docs/openapi.yaml" --url "http://127.0.0.1:$port" \
    --max-time "$search_seconds" --workers 2 --request-timeout 15 --no-color >"$log" 2>&1 || status=$?
  # Also what a client can't see is a surprise.
  if grep '"level":"ERROR"' "$data/service.log" >>"$log"; then status=1; fi
  return "$status"
)
