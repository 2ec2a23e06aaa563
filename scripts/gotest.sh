#!/usr/bin/env bash
# Runs "go test" with the arguments given, in the environment of scripts/setup-tests.sh.
# Prints what go test prints: of packages that pass the result and what was skipped, of
# others everything but the tests that passed; with CI=true everything. Then it says how
# many tests were not run and why; with CI=true a test that was not run is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -f .cache/test-env ]; then
	. .cache/test-env
fi
mkdir -p .cache
skipped=$(mktemp .cache/skipped.XXXXXX)
trap 'rm -f "$skipped"' EXIT

# Packages come one after another, each ending in its result line. What go itself complains
# about goes to standard error, past the filter.
status=0
go test -v "$@" | SKIPPED=$skipped awk '
	function finish(text) {
		if (!ci) { printf "%s", text; fflush() }
		held = skips = ""
		split("", reason)
	}
	BEGIN { ci = ENVIRON["CI"] == "true" }
	ci { print; fflush() }
	/^=== [A-Z]+ / { test = $3; next }
	/^ +[^ ]+\.go:[0-9]+: / { reason[test] = $0; sub(/^ +[^ ]+: /, "", reason[test]) }
	/^ *--- SKIP: / {
		line = $3 ($3 in reason ? ": " reason[$3] : "")
		print line >> ENVIRON["SKIPPED"]
		skips = skips "--- SKIP: " line "\n"
	}
	/^ *--- PASS: / || /^PASS$/ { next }
	/^ok  \t/ || /^\?   \t/ { finish(skips $0 "\n"); next }
	/^FAIL\t/ { finish(held $0 "\n"); next }
	{ held = held $0 "\n" }
	END { finish(held) }
' || status=$?

count=$(wc -l <"$skipped")
if [ "$count" -gt 0 ]; then
	printf 'not run: %d (%s)\n' "$count" "$(paste -sd';' "$skipped" | sed 's/;/; /g')"
	if [ "${CI:-}" = true ]; then
		echo "a test that is not run is a failure in CI" >&2
		[ "$status" != 0 ] || status=1
	fi
else
	echo 'not run: 0'
fi
exit "$status"
