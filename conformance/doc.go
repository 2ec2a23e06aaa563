// Package conformance is the black-box suite: it drives a server as AWS's own clients do,
// through the AWS SDK for Go v2 and Eclipse Paho, and knows nothing of drover's code. Each
// numbered statement of the behavioural specification is one test, named TestSnnn…, and
// TestBnnn… those about the broker, which internal/mqtttest speaks to byte by byte.
//
// Without flags it builds drover and starts one server for most tests, and one of its own
// for each test that changes what is global. With -endpoint and -mqtt it runs against any
// server; the key is taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
//
// With -store postgres, or DROVER_TEST_STORE=postgres, the servers that it starts work on PostgreSQL, which
// the tests start as well. Those in test mode stay on SQLite.
//
// TestPowerCut takes -rounds and -seed: go test ./conformance -run PowerCut -rounds 100 -timeout 1h.
// TestCompatibility compares docs/compatibility.md with the tests.
package conformance
