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
