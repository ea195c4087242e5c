# shellcheck shell=bash
# Holds what others build on (docs/openapi.yaml, docs/asyncapi.yaml) to its standards, and sets up the tools for that.
# Sourced after tools.sh.

# The JSON schemas of AsyncAPI, as its authors publish them.
asyncapi_schemas=@asyncapi/specs@6.11.1
asyncapi_dir=$local_dir/asyncapi

# Standards first: a document that is none says nothing of the service.
check_contracts() {
  setup_python contracts || return
  setup_asyncapi_schemas || return
  local wrong=0
  "$local_dir/contracts/bin/openapi-spec-validator" --subschema-errors all --validation-errors all docs/openapi.yaml || wrong=1
  "$local_dir/contracts/bin/check-jsonschema" --schemafile "$asyncapi_dir/schemas/3.0.0.json" docs/asyncapi.yaml || wrong=1
  return "$wrong"
}

# setup_python NAME: a virtual environment .local/NAME with exactly what scripts/lib/NAME.txt lists.
setup_python() {
  python_is_set_up "$1" || locked install_python "$1"
}

python_is_set_up() {
  cmp -s "$root/scripts/lib/$1.txt" "$local_dir/$1/installed.txt"
}

install_python() {
  python_is_set_up "$1" && return # another script was first
  local list=$root/scripts/lib/$1.txt venv=$local_dir/$1
  say "installing the tools of scripts/lib/$1.txt into .local/ (once)"
  python3 -m venv --clear "$venv" ||
    die "python3 can't make a virtual environment (Debian: apt install python3-venv), then run this again"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$list" >&2 ||
    die "the tools of scripts/lib/$1.txt could not be installed; is a package index within reach? Then run this again"
  cp "$list" "$venv/installed.txt"
}

setup_asyncapi_schemas() {
  asyncapi_schemas_are_there || locked install_asyncapi_schemas
}

asyncapi_schemas_are_there() {
  [ "$(cat "$asyncapi_dir/version" 2>/dev/null)" = "$asyncapi_schemas" ]
}

# The package is schemas and nothing else: it is unpacked, and nothing of it is run.
install_asyncapi_schemas() {
  asyncapi_schemas_are_there && return # another script was first
  command -v npm >/dev/null || {
    say "npm is missing (Debian: apt install npm; macOS: brew install node), then run this again"
    return 1
  }
  rm -rf "$asyncapi_dir"
  mkdir -p "$asyncapi_dir"
  local archive
  archive=$(cd "$asyncapi_dir" && npm pack --silent "$asyncapi_schemas") || return
  tar -xzf "$asyncapi_dir/$archive" -C "$asyncapi_dir" --strip-components 1 package/schemas package/LICENSE || return
  rm "$asyncapi_dir/$archive"
  printf '%s\n' "$asyncapi_schemas" >"$asyncapi_dir/version"
}
