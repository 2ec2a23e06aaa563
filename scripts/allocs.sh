#!/usr/bin/env bash
# Measures what scripts/allocs.txt lists and fails if anything allocates more often than it
# may. Allocations are counted exactly, whatever else the machine does; times are not looked at.
set -euo pipefail
cd "$(dirname "$0")/.."

budgets=$(grep -v '^#' scripts/allocs.txt)
packages=$(awk '{ print "./internal/" $1 }' <<<"$budgets" | sort -u)
benchmarks=$(awk '{ sub("/.*", "", $2); print $2 }' <<<"$budgets" | sort -u | paste -sd'|')

run() { "${GO:-go}" test -run '^$' -bench "^Benchmark($benchmarks)\$" -benchmem "$@" $packages; }
# Batches of devices' requests take longer, and only full ones are counted.
measured=$(run -benchtime 1000x -skip DeviceRequests && packages=./internal/engine run -benchtime 50x -skip '/(1|64)-devices')
awk '
	NR == FNR && /^pkg: / { package = $2; sub("^drover/internal/", "", package) }
	NR == FNR && /^Benchmark/ {
		name = $1; sub("^Benchmark", "", name); sub("-[0-9]+$", "", name)
		for (i = 2; i < NF; i++) if ($(i + 1) == "allocs/op") got[package " " name] = $i
	}
	NR == FNR || /^#/ { next }
	{
		key = $1 " " $2
		if (!(key in got)) { printf "%s: not measured\n", key; bad = 1 }
		else if (got[key] > $3) { printf "%s: %d allocations, at most %d\n", key, got[key], $3; bad = 1 }
		else if (got[key] < $3) printf "%s: %d allocations, of %d\n", key, got[key], $3
	}
	END { exit bad }
' <(printf '%s\n' "$measured") scripts/allocs.txt
