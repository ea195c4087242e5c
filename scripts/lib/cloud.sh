# shellcheck shell=bash
# Holds what is deployed (template.yaml, Dockerfile, compose.yaml) to the rules of its platforms, as far as that is
# possible without them. Sourced after contracts.sh.

cloud_bin=$local_dir/cloud/bin

# The linters see more in what the template becomes than in what is written, and `sam` sees what they don't.
check_template() {
  setup_python cloud || return
  local expanded=$local_dir/cloud/expanded.json wrong=0
  # A region has to be named; nobody there is asked.
  SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-central-1 \
    "$cloud_bin/sam" validate --lint --template-file template.yaml --config-file "$root/samconfig.toml" || wrong=1
  "$cloud_bin/python" scripts/lib/expand_template.py template.yaml >"$expanded" || return
  "$cloud_bin/cfn-lint" --non-zero-exit-code warning "$expanded" || wrong=1
  return "$wrong"
}

# Neither builds anything nor needs a daemon.
check_containers() {
  setup_python cloud || return
  local wrong=0
  "$cloud_bin/hadolint" Dockerfile || wrong=1
  JWT_SECRET=any "$cloud_bin/docker-compose" --file compose.yaml config --quiet || wrong=1
  return "$wrong"
}
