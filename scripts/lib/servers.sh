# shellcheck shell=bash disable=SC2034 # what is set here is for the script that sources this
# Starts and ends processes for the scripts: each by its own id, each on a free loopback port. Sourced after common.sh.

started=() # process ids, the latest last

# start COMMAND...: in the background and in a process group of its own, so that Ctrl-C reaches this script alone, which
# then ends everything in order. The process id is in $started_pid.
start() {
  set -m
  "$@" </dev/null &
  set +m
  started_pid=$!
  started+=("$started_pid")
}

# Ends what was started, the latest first, and waits for each, so that a service can still write its last changes.
stop_all() {
  local index pid deadline
  for ((index = ${#started[@]} - 1; index >= 0; index--)); do
    pid=${started[index]}
    deadline=$((SECONDS + 10))
    kill -TERM "$pid" 2>/dev/null || continue
    while is_alive "$pid" && ((SECONDS < deadline)); do sleep 0.05; done
    if is_alive "$pid"; then kill -KILL "$pid"; fi
    wait "$pid" 2>/dev/null || true
  done
  started=()
}

is_alive() {
  kill -0 "$1" 2>/dev/null
}

# The port is below those that the system hands out by itself, so nobody takes it between now and its use by chance.
free_port() {
  local port
  while true; do
    port=$((20000 + RANDOM % 12000))
    listens "$port" || break
  done
  printf '%s\n' "$port"
}

# listens PORT: whether anybody does.
listens() {
  (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# http_answers PORT PATH: whether the path is there (status 200).
http_answers() {
  local status=
  { exec 4<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return
  printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$2" >&4
  read -r -t 2 _ status _ <&4 || true
  exec 4>&-
  [ "$status" = 200 ]
}

# start_store DIR: a Valkey (or Redis) that keeps what it is told for as long as DIR lives. Sets $redis_url.
start_store() {
  local dir=$1 port binary=${VALKEY_SERVER_BIN:-$REDIS_SERVER_BIN}
  port=$(free_port)
  mkdir -p "$dir"
  start "$binary" --bind 127.0.0.1 --port "$port" --dir "$dir" --appendonly yes --save '' >"$dir/log" 2>&1
  wait_until 10 "the store (see $dir/log)" store_is_ours "$port" "$started_pid" "$dir/log"
  redis_url=redis://127.0.0.1:$port
}

# start_bench_store DIR: the store of measurements: a Redis where there is one, for functions over TLS as well. Whether it
# keeps anything is for each measurement to say. Sets $redis_url and the options $tls.
start_bench_store() {
  local dir=$1 port tls_port keys=$root/shared/tests/keys options=()
  port=$(free_port)
  tls=()
  if [ -n "${REDIS_SERVER_BIN-}" ]; then
    tls_port=$(free_port)
    options=(--tls-port "$tls_port" --tls-auth-clients no --tls-cert-file "$keys/server.pem"
      --tls-key-file "$keys/server.key.pem" --tls-ca-cert-file "$keys/ca.pem")
    tls=(--redis-tls-url "rediss://localhost:$tls_port" --tls-ca-file "$keys/ca.pem")
  fi
  mkdir -p "$dir"
  start "${REDIS_SERVER_BIN:-$VALKEY_SERVER_BIN}" --bind 127.0.0.1 --port "$port" --dir "$dir" --appendonly no \
    --save '' ${options[@]+"${options[@]}"} >"$dir/log" 2>&1
  wait_until 10 "the store (see $dir/log)" store_is_ours "$port" "$started_pid" "$dir/log"
  redis_url=redis://127.0.0.1:$port
}

# Whether the process that answers on the port is the one that was started: ports meet strangers.
store_is_ours() {
  is_alive "$2" || die "the store ended at its start: $(tail -n 1 "$3")"
  { exec 4<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return
  printf 'INFO server\r\nQUIT\r\n' >&4
  local line ours=1
  while read -r -t 2 line <&4; do
    [ "${line%$'\r'}" != "process_id:$2" ] || ours=0
  done
  exec 4>&-
  return "$ours"
}

# start_nats DIR: a NATS with JetStream, which picks a free port itself. Sets $nats_url.
start_nats() {
  local dir=$1
  mkdir -p "$dir/ports"
  start "$NATS_SERVER_BIN" -a 127.0.0.1 -p -1 -js -sd "$dir" --ports_file_dir "$dir/ports" >"$dir/log" 2>&1
  wait_until 10 "NATS (see $dir/log)" nats_has_a_port "$dir" "$started_pid"
}

nats_has_a_port() {
  is_alive "$2" || die "NATS ended at its start: $(tail -n 1 "$1/log")"
  local ports
  ports=$(cat "$1"/ports/*_"$2".ports 2>/dev/null) || return
  [[ "$ports" =~ nats://[0-9.:]+ ]] && nats_url=${BASH_REMATCH[0]}
}

# start_service PORT [LOG]: the service, as it was built last, with the variables that are set. Returns when it is ready.
start_service() {
  service_log=${2-}
  if [ -n "$service_log" ]; then
    PORT=$1 start "$target_dir/debug/presence-service" >"$service_log" 2>&1
  else
    PORT=$1 start "$target_dir/debug/presence-service"
  fi
  service_pid=$started_pid
  wait_until 30 "the service to be ready" service_is_ready "$1"
}

service_is_ready() {
  is_alive "$service_pid" || die "the service ended at its start${service_log:+: $(tail -n 1 "$service_log")}"
  http_answers "$1" /ready
}

# start_functions PORT: the functions, as they were built last, in the local Lambda emulator.
start_functions() {
  if [ -z "${JWT_SECRET-}${JWT_PUBLIC_KEY-}${JWT_JWKS_URL-}" ]; then export JWT_DEVELOPMENT_TOKENS=on; fi
  CARGO_TARGET_DIR=$target_dir start "$CARGO_LAMBDA_BIN" lambda watch --ignore-changes \
    --invoke-address 127.0.0.1 --invoke-port "$1"
  functions_pid=$started_pid
  wait_until 30 "the emulator to listen" functions_listen "$1"
}

functions_listen() {
  is_alive "$functions_pid" || die "the emulator ended at its start: what it said is above"
  listens "$1"
}

# start_bridge URL: the bridge, as it was built last. Its Lambda is the emulator there, which takes any credentials. Sets
# $bridge_url, where its probes are.
start_bridge() {
  local probes
  probes=$(free_port)
  AWS_ENDPOINT_URL_LAMBDA=$1 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local \
    AWS_EC2_METADATA_DISABLED=true ADMIN_ADDR=127.0.0.1:$probes start "$target_dir/debug/presence-bridge"
  bridge_pid=$started_pid
  bridge_url=http://127.0.0.1:$probes
  wait_until 30 "the bridge to be ready" bridge_is_ready "$probes"
}

bridge_is_ready() {
  is_alive "$bridge_pid" || die "the bridge ended at its start: what it said is above"
  http_answers "$1" /ready
}

# begin_session STATUS: from now on everything that is started ends with this script, however that ends; Ctrl-C ends it
# with the status. Sets $data, a folder that goes with it.
begin_session() {
  mkdir -p "$local_dir"
  data=$(mktemp -d "$local_dir/run.XXXXXX")
  trap end_session EXIT
  # shellcheck disable=SC2064 # the status is the one given now
  trap "exit $1" INT TERM HUP
}

end_session() {
  trap '' INT TERM HUP
  stop_all
  rm -rf "$data"
}

# A test ends its servers itself, unless it was killed; then their process ids still lie beside their data.
end_leftovers() {
  local file
  for file in "$TMPDIR"/*/pid; do
    if [ -e "$file" ]; then kill -KILL "$(cat "$file")" 2>/dev/null || true; fi
  done
  rm -rf "$TMPDIR"
}
