#!/usr/bin/env bash
# Runs every fuzz target for the time given (default 30s), one after another.
set -euo pipefail
cd "$(dirname "$0")/.."

grep -rlE --include='*_test.go' --exclude-dir=.cache '^func Fuzz' . | xargs -r -n1 dirname | sort -u | while read -r dir; do
	for target in $(go test -list '^Fuzz' "$dir" | grep '^Fuzz'); do
		echo "$dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}" "$dir" </dev/null
	done
done
