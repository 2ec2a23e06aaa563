#!/usr/bin/env bash
# mosquitto's command line clients against the listener DROVER_MQTT (mqtt://HOST:PORT), in MQTT
# 3.1.1 and 5: retained messages, persistent sessions, wills, properties, shared subscriptions.
# Every wait is bounded. Exits with 0 if all is as it should be.
set -euo pipefail

address=${DROVER_MQTT#mqtt://}
at=(-h "${address%:*}" -p "${address##*:}")
me=mosquitto-$$-$RANDOM
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf "$work"' EXIT

fail() {
	echo "mosquitto: $*" >&2
	exit 1
}

# same WHAT WANT GOT
same() { [ "$2" = "$3" ] || fail "$1: got '$3', want '$2'"; }

for version in mqttv311 mqttv5; do
	expiry=()
	[ $version = mqttv311 ] || expiry=(-x 600)
	pub() { mosquitto_pub "${at[@]}" -V $version "$@"; }
	sub() { mosquitto_sub "${at[@]}" -V $version -W 20 "$@"; }
	topic=$me/$version

	pub -t "$topic/kept" -r -q 1 -m 'still here'
	same "$version retained" "1 $topic/kept still here" "$(sub -t "$topic/kept" -q 1 -C 1 -F '%r %t %p')"
	pub -t "$topic/kept" -r -q 1 -n

	# -E leaves once subscribed; what comes then waits in the session.
	session=(-i "$me-session" -c -q 1 "${expiry[@]}")
	sub "${session[@]}" -t "$topic/away/+" -E
	for n in 1 2 3; do pub -q 1 -t "$topic/away/$n" -m "message $n"; done
	pub -q 0 -t "$topic/away/0" -m 'lost'
	same "$version persistent session" $'message 1\nmessage 2\nmessage 3' "$(sub "${session[@]}" -t "$topic/away/+" -C 3)"
	sub -i "$me-session" -t "$topic/away/+" -E # clean: the session ends

	# A will, of one who is killed once its connection is told of.
	heir=(-i "$me-heir" -c -q 1 "${expiry[@]}")
	sub "${heir[@]}" -t "$topic/will" -t "\$aws/events/presence/connected/$me-mortal" -E
	mosquitto_sub "${at[@]}" -V $version -i "$me-mortal" -t "$topic/nothing" \
		--will-topic "$topic/will" --will-payload 'goodbye' --will-qos 1 &
	mortal=$!
	same "$version presence" "\$aws/events/presence/connected/$me-mortal" "$(sub "${heir[@]}" -t "$topic/will" -C 1 -F %t)"
	kill -9 $mortal
	wait $mortal 2>/dev/null || true
	# A client that leaves before it has acknowledged gets the event again: -T passes over it.
	same "$version will" 'goodbye' "$(sub "${heir[@]}" -t "$topic/will" -C 1 -T "\$aws/events/presence/connected/$me-mortal")"
	sub -i "$me-heir" -t "$topic/will" -E

	# Nobody of the group is there: who returns first gets all.
	group=(-i "$me-worker" -c -q 1 "${expiry[@]}" -t "\$share/workers/$topic/work")
	sub "${group[@]}" -E
	for n in 1 2; do pub -q 1 -t "$topic/work" -m "task $n"; done
	same "$version shared subscription" $'task 1\ntask 2' "$(sub "${group[@]}" -C 2)"
	sub -i "$me-worker" -t "$topic/work" -E
done

# Properties of MQTT 5.
mosquitto_pub "${at[@]}" -V 5 -t "$me/props" -r -q 1 -m '{"a":1}' -D publish content-type application/json -D publish response-topic "$me/answer" \
	-D publish correlation-data 42 -D publish user-property color green -D publish user-property color blue -D publish message-expiry-interval 600
got=$(mosquitto_sub "${at[@]}" -V 5 -W 20 -t "$me/props" -q 1 -C 1 -F '%C|%R|%D|%P|%p|%E')
same properties "application/json|$me/answer|42|color:green color:blue|{\"a\":1}" "${got%|*}"
[ "${got##*|}" -gt 500 ] && [ "${got##*|}" -le 600 ] || fail "message expiry: $got"
mosquitto_pub "${at[@]}" -V 5 -t "$me/props" -r -q 1 -n

# What is refused is told.
# shellcheck disable=SC2016 # no variable
mosquitto_pub "${at[@]}" -V 5 -q 1 -t '$aws/things/x/jobs/notify' -m x 2>"$work/refused" || true
grep -qi 'topic name invalid' "$work/refused" || fail "a reserved topic: $(cat "$work/refused")"
echo ok >&2
