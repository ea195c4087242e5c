# shellcheck shell=bash
# Shared by every script: where the project is, how a script speaks, how it fails. Sourced, never run.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034 # both are for the scripts that source this
local_dir=$root/.local # tools, data and logs of the scripts; ignored by git, safe to delete
# shellcheck disable=SC2034
target_dir=${CARGO_TARGET_DIR:-$root/target}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${0##*/}: $*"
  exit 1
}

# A script's help is the comment at its head.
help_if_asked() {
  case ${1-} in
  -h | --help)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  esac
}

# The compiler is the one thing that these scripts do not install.
need_cargo() {
  command -v cargo >/dev/null ||
    die "cargo is missing: install Rust with rustup (rust-toolchain.toml names the version), then run this again"
}

# wait_until SECONDS WHAT COMMAND...: asks until the command succeeds; gives up with a sentence.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < deadline)) || die "gave up waiting for $what"
    sleep 0.05
  done
}
