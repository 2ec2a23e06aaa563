#!/usr/bin/env bash
# Sets up what the tests need beyond Go, on Debian and Ubuntu: Python 3 with the clients of
# scripts/requirements.txt in a virtual environment, Node.js with those of
# scripts/requirements-node.txt, both under .cache/, mosquitto's command line clients,
# PostgreSQL, of which tests start servers of their own, Chromium, promtool, and VersityGW, an S3 store that is not ours, as a Go module. It
# says what it installs, and what is missing where it cannot; it never fails for that, because
# the tests that miss something are skipped and counted (scripts/gotest.sh). What is there stays.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup-tests: %s\n' "$*"; }

venv=$PWD/.cache/venv
node=$PWD/.cache/node
s3=$PWD/.cache/s3
env=.cache/test-env
mkdir -p .cache

# as_root COMMAND... runs it as root, if that needs no password.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo -n "$@"
	else
		say "missing: the rights to run '$*'"
		return 1
	fi
}

# need WHAT TEST PACKAGE... installs packages unless the command TEST succeeds.
need() {
	local what=$1 test=$2
	shift 2
	$test && return 0
	if ! command -v apt-get >/dev/null; then
		say "missing: $what (and no apt-get to install it)"
		return 1
	fi
	say "installing the packages $* with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >>.cache/apt.log 2>&1 &&
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install "$@" >>.cache/apt.log 2>&1
	$test && return 0
	say "missing: $what (see .cache/apt.log)"
	return 1
}

python_usable() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; }
node_usable() { command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 16 ? 1 : 0)' >/dev/null 2>&1; }
postgres_usable() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
promtool_usable() { command -v promtool >/dev/null; }
chromium_usable() { command -v chromium >/dev/null; }
mosquitto_usable() { command -v mosquitto_sub >/dev/null && command -v mosquitto_pub >/dev/null; }

# installed FOLDER LIST says whether what the list names was installed into the folder.
installed() { [ "$(cat "$1/installed" 2>/dev/null)" = "$(cksum <"$2")" ]; }

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 "$@" >>.cache/pip.log 2>&1; }

install_python_clients() {
	local list=scripts/requirements.txt line
	if installed "$venv" $list && "$venv/bin/python" -c '' 2>/dev/null; then
		say "Python clients are installed in .cache/venv"
		return 0
	fi
	say "installing $(paste -sd' ' $list) into .cache/venv with pip"
	: >.cache/pip.log
	python3 -m venv --clear "$venv" >>.cache/pip.log 2>&1 || {
		say "missing: a Python virtual environment (see .cache/pip.log)"
		return 1
	}
	if pip_install -r $list; then
		cksum <$list >"$venv/installed"
		return 0
	fi
	while read -r line; do # one that cannot be had does not keep the others away
		[ -z "$line" ] || pip_install "$line" || say "missing: $line (see .cache/pip.log)"
	done <$list
}

install_node_clients() {
	local list=scripts/requirements-node.txt
	if installed "$node" $list; then
		say "Node.js clients are installed in .cache/node"
		return 0
	fi
	say "installing $(paste -sd' ' $list) into .cache/node with npm"
	rm -rf "$node"
	mkdir -p "$node"
	# shellcheck disable=SC2046 # one argument a line
	if ! npm install --prefix "$node" --no-audit --no-fund --ignore-scripts $(cat $list) >.cache/npm.log 2>&1; then
		say "missing: $(paste -sd' ' $list) (see .cache/npm.log)"
		return 1
	fi
	cksum <$list >"$node/installed"
}

install_versitygw() {
	local version=v1.8.0
	if [ "$(cat "$s3/installed" 2>/dev/null)" = $version ] && [ -x "$s3/versitygw" ]; then
		say "VersityGW is installed in .cache/s3"
		return 0
	fi
	say "building VersityGW $version into .cache/s3, which takes a minute or two"
	mkdir -p "$s3"
	if ! GOBIN=$s3 GOFLAGS=-mod=mod go install github.com/versity/versitygw/cmd/versitygw@$version >.cache/versitygw.log 2>&1; then
		say "missing: VersityGW (see .cache/versitygw.log)"
		return 1
	fi
	echo $version >"$s3/installed"
}

: >"$env.new"
: >.cache/apt.log
if need 'Python 3.9 or newer with venv' python_usable python3 python3-venv && install_python_clients; then
	printf 'export DROVER_TEST_PYTHON=%q\n' "$venv/bin/python" >>"$env.new"
else
	say "tests with Python clients will not run"
fi
if need 'Node.js 16 or newer with npm' node_usable nodejs npm && install_node_clients; then
	printf 'export DROVER_TEST_NODE_MODULES=%q\n' "$node/node_modules" >>"$env.new"
else
	say "tests with Node.js clients will not run"
fi
if install_versitygw; then
	printf 'export DROVER_TEST_VERSITYGW=%q\n' "$s3/versitygw" >>"$env.new"
else
	say "tests with an S3 store that is not ours will not run"
fi
need "mosquitto's clients" mosquitto_usable mosquitto-clients || say "tests with mosquitto's clients will not run"
need "Chromium" chromium_usable chromium fonts-dejavu-core || say "tests of the console will not run"
need "Prometheus's promtool" promtool_usable prometheus || say "the alerts will not be checked"
need 'PostgreSQL' postgres_usable postgresql || say "tests with PostgreSQL will not run"
mv "$env.new" "$env"
