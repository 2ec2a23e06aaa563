#!/usr/bin/env bash
# Sets up what the tests need beyond Go, on Debian and Ubuntu: Python 3 with the AWS clients
# of scripts/requirements.txt, in a virtual environment under .cache/. It says what it
# installs, and what is missing where it cannot; it never fails for that, because the tests
# that miss something are skipped and counted (scripts/gotest.sh). What is there stays.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup-tests: %s\n' "$*"; }

venv=$PWD/.cache/venv
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

python_usable() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; }

install_python() {
	python_usable && return 0
	if ! command -v apt-get >/dev/null; then
		say "missing: Python 3.9 or newer with venv (and no apt-get to install it)"
		return 1
	fi
	say "installing the packages python3 and python3-venv with apt-get"
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >.cache/apt.log 2>&1 &&
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install python3 python3-venv >>.cache/apt.log 2>&1
	python_usable && return 0
	say "missing: Python 3.9 or newer with venv (see .cache/apt.log)"
	return 1
}

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 "$@" >>.cache/pip.log 2>&1; }

install_clients() {
	local stamp want line
	want=$(cksum <scripts/requirements.txt)
	stamp=$venv/installed
	if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null; then
		say "Python clients are installed in .cache/venv"
		return 0
	fi
	say "installing $(paste -sd' ' scripts/requirements.txt) into .cache/venv with pip"
	: >.cache/pip.log
	python3 -m venv --clear "$venv" >>.cache/pip.log 2>&1 || {
		say "missing: a Python virtual environment (see .cache/pip.log)"
		return 1
	}
	if pip_install -r scripts/requirements.txt; then
		printf '%s\n' "$want" >"$stamp"
		return 0
	fi
	while read -r line; do # one that cannot be had does not keep the others away
		[ -z "$line" ] || pip_install "$line" || say "missing: $line (see .cache/pip.log)"
	done <scripts/requirements.txt
}

if install_python && install_clients; then
	printf 'export DROVER_TEST_PYTHON=%q\n' "$venv/bin/python" >"$env.new"
else
	say "tests with Python clients will not run"
	: >"$env.new"
fi
mv "$env.new" "$env"
