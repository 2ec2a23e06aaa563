#!/usr/bin/env bash
# Runs three test suites that others have written against a drover of this checkout:
#
#  - the functional tests of Eclipse Paho's Go client (MQTT 3.1.1), out of the Go module that
#    the tests use anyway;
#  - those of Eclipse Paho's C client (MQTT 5 and 3.1.1), which are part of the crate
#    paho-mqtt-sys in the Rust registry. They ask for QoS 2 everywhere; that is made QoS 1, the
#    most that AWS IoT Core has, in the copy that is built here;
#  - the integration tests of the crate mqtt5 in the Rust registry (MQTT 5), which start a broker
#    of their own; in the copy that is built here they get drover instead, and those that want
#    that broker's own settings are left out.
#
# What is known to fail is listed with the reason; anything else that fails, or that is known to
# and passes, ends this with 1. Needs Go, cargo, CMake, a C compiler and Python 3. Nothing of
# it stays. It takes ten minutes and more, most of them to compile. The Go suite knows no other port than 1883, so that the server takes a loopback
# address of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

crate='paho-mqtt-sys = { version = "=0.11.0", default-features = false }'
mqtt5=0.49.0
host=127.77.0.1
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

say() { printf 'mqtt-suites: %s\n' "$*"; }

# known NAME says why a test fails.
known() {
	case $1 in
	go/Test_p2s*) echo 'QoS 2' ;;
	go/Test_cleanUpMids | go/Test_Ack_After_Disconnect) echo 'QoS 2' ;;
	go/Test_OverLengthTopic) echo 'a topic of 65,535 bytes; AWS has 256' ;;
	test1[01]/2) echo 'the server sends no topic aliases' ;;
	test1[01]/3 | test1[01]/8) echo 'subscription identifiers, which AWS does not have' ;;
	test1[01]/4) echo 'looks for a full window of QoS 2 in the trace of the client' ;;
	test10/5) echo 'wants user properties in a SUBACK' ;;
	test10/6) echo 'needs topics that the own server of the suite refuses' ;;
	test15/1) echo 'subscription identifiers, which AWS does not have' ;;
	test15/4) echo 'QoS 2' ;;
	assigned_client_id/an_unnamed*) echo 'wants the ids that its own broker makes up' ;;
	integration_complete_flow/test_large_payload_handling) echo 'a payload of 1 MB; AWS has 128 KB' ;;
	integration_mqtt5_features/test_publish_*_client_id) echo 'a user property that its own broker adds' ;;
	integration_mqtt5_features/test_subscription_identifiers) echo 'subscription identifiers, which AWS does not have' ;;
	keepalive_negotiation/broker_closes_idle*) echo 'a keep-alive of 1 s; the least of AWS is 30 s' ;;
	retained_properties_preserved/*_wildcard*) echo 'retained messages for a filter with wildcards, which AWS does not send' ;;
	*) return 1 ;;
	esac
}

passed=0 expected=0 wrong=0
# result NAME STATUS
result() {
	local reason
	if reason=$(known "$1"); then
		if [ "$2" = 0 ]; then
			say "$1 passes, though it should not: $reason"
			wrong=$((wrong + 1))
		else
			say "$1 fails as known: $reason"
			expected=$((expected + 1))
		fi
	elif [ "$2" = 0 ]; then
		passed=$((passed + 1))
	else
		say "$1 FAILS: $work/${1//\//.}.log"
		tail -5 "$work/${1//\//.}.log" | cut -c1-200
		wrong=$((wrong + 1))
	fi
}

go build -o "$work/drover" ./cmd/drover
mkfifo "$work/ready"
"$work/drover" serve --data "$work/data" --http 127.0.0.1:0 --mqtt $host:1883 --log-level error >"$work/ready" &
pids+=($!)
read -r _ <"$work/ready"

say 'Eclipse Paho for Go'
module=$(go list -m -f '{{.Dir}}' github.com/eclipse/paho.mqtt.golang)
for name in $(sed -n 's/^func \(Test_[A-Za-z0-9_]*\)(.*/\1/p' "$module/fvt_client_test.go"); do
	if known "go/$name" >/dev/null; then # some of these wait for ever
		say "$name left out: $(known "go/$name")"
		continue
	fi
	status=0
	TEST_FVT_ADDR=$host go test -timeout 2m -run "^$name\$" github.com/eclipse/paho.mqtt.golang >"$work/go.$name.log" 2>&1 || status=$?
	result "go/$name" $status
done

say 'Eclipse Paho for C'
mkdir "$work/crate"
printf '[package]\nname = "suite"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "lib.rs"\n[dependencies]\n%s\n' "$crate" >"$work/crate/Cargo.toml"
: >"$work/crate/lib.rs"
(cd "$work/crate" && cargo vendor -q ../vendor >/dev/null)
paho=$work/vendor/paho-mqtt-sys/paho.mqtt.c
for source in test1 test10 test11 test15; do
	sed -i -E -e 's/GRANTED_QOS_2/GRANTED_QOS_1/g' -e 's/qos = 2;/qos = 1;/g' -e 's/(subscribe5?\(.*, )2(, )/\11\2/' \
		-e 's/(endAndReceive\(c, )2/\11/' -e 's/test4_run\(1\) \+ test4_run\(2\)/test4_run(1)/' \
		-e 's/subsqos = 2/subsqos = 1/' -e 's/(qos[a-z]*\[[0-9]*\] = )\{2, 2\}/\1{1, 1}/' "$paho/test/$source.c"
done
cmake -S "$paho" -B "$work/build" -DPAHO_ENABLE_TESTING=ON -DPAHO_BUILD_STATIC=ON -DPAHO_BUILD_SHARED=OFF -DPAHO_WITH_SSL=OFF >"$work/build.log"
cmake --build "$work/build" --target test1-static test10-static test11-static test15-static >>"$work/build.log" 2>&1
# A proxy of the suite, which cuts connections.
(cd "$paho/test" && exec python3 mqttsas.py $host 1883 21884 >"$work/proxy.log" 2>&1) &
pids+=($!)
for test in test1/{1..7} test15/{1..7} test10/{1..9} test11/{1..9}; do
	mkdir "$work/run" # they keep files
	status=0
	(cd "$work/run" && exec timeout 40 "$work/build/test/${test%/*}-static" --test_no "${test#*/}" \
		--connection tcp://$host:1883 --proxy_connection tcp://127.0.0.1:21884) >"$work/${test/\//.}.log" 2>&1 || status=$?
	rm -rf "$work/run"
	result "$test" $status
done

say 'the crate mqtt5'
curl -sSfL https://static.crates.io/crates/mqtt5/mqtt5-$mqtt5.crate | tar xz -C "$work"
suite=$work/mqtt5-$mqtt5
suites=(assigned_client_id deferred_ack_matrix deferred_ack_reconnect integration_complete_flow integration_mqtt5_features
	integration_reconnection keepalive_handling keepalive_negotiation persistence qos_flow retained_properties_preserved
	separate_clients subscription_options_persistence will_delay)
# Its lock file names versions that have been taken back since. The targets are the files that stay.
rm "$suite/Cargo.lock"
sed -i -e '/^\[\[test\]\]/,/^$/d' -e 's/^autotests = false/autotests = true/' "$suite/Cargo.toml"
mkdir "$work/chosen"
for name in "${suites[@]}"; do mv "$suite/tests/$name.rs" "$work/chosen"; done
rm "$suite"/tests/*.rs
mv "$work"/chosen/* "$suite/tests"
python3 - "$suite/tests/common/mod.rs" <<'PYTHON'
import sys
path = sys.argv[1]
text = open(path).read()
start, own = "    pub async fn start() -> Self {\n", "    pub async fn start_with_config(config: BrokerConfig) -> Self {\n"
assert text.count(start) == text.count(own) == 1
text = text.replace(start, """    pub async fn start() -> Self {
        let address = std::env::var("BROKER_URL").unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Self { address, port, config: BrokerConfig::default(), handle: None }
    }

    #[allow(dead_code)]
    async fn start_own() -> Self {
""")
text = text.replace(own, own + '        panic!("settings of its own");\n')
open(path, "w").write(text)
PYTHON
(cd "$suite" && cargo test -q --no-run --no-default-features --features broker) >"$work/mqtt5.log" 2>&1
for name in "${suites[@]}"; do
	binary=$(find "$suite/target/debug/deps" -name "$name-*" -type f -executable)
	for test in $("$binary" --list | sed -n 's/: test$//p' | grep -v '^common::'); do
		status=0
		(cd "$work" && BROKER_URL=mqtt://$host:1883 exec timeout 60 "$binary" --exact "$test") >"$work/$name.$test.log" 2>&1 || status=$?
		if grep -q 'settings of its own\|Could not find workspace root' "$work/$name.$test.log"; then
			say "$name/$test left out: wants settings of its own broker"
			continue
		fi
		result "$name/$test" $status
	done
done

say "$passed passed, $expected failed as known, $wrong not as known"
[ $wrong = 0 ]
