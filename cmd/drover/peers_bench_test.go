package main

import (
	"slices"
	"syscall"
	"testing"
	"time"

	. "drover/internal/mqtttest"
)

// BenchmarkMessage measures what it costs that the subscriber of a message is at another node: the
// time until it has a message of QoS 0, or until the publisher of one of QoS 1 has its PUBACK, one
// message at a time, and the processor time of everybody: both nodes, publisher and subscriber.
func BenchmarkMessage(b *testing.B) {
	for name, node := range map[string]int{"SameNode": 0, "AnotherNode": 1} {
		for qos, name := range []string{name + "/QoS0", name + "/QoS1"} {
			b.Run(name, func(b *testing.B) {
				c := startBrokers(b, 2)
				sub, pub := c.plain(node, "sub"), c.plain(0, "pub")
				sub.Granted(1, "a/b/c/d")
				until(b, "the publisher's node knows who wants it", func() bool { return c.nodes[0].peers.node.Wanted("a/b/c/d") == (node == 1) })
				payload := string(make([]byte, 200))
				var took []time.Duration
				began := processorTime(b)
				for b.Loop() {
					start := time.Now()
					pub.Publish(Publish{Topic: "a/b/c/d", Payload: payload, QoS: byte(qos)})
					if qos == 1 {
						took = append(took, time.Since(start))
					}
					sub.Message()
					if qos == 0 {
						took = append(took, time.Since(start))
					}
				}
				slices.Sort(took)
				b.ReportMetric(float64((processorTime(b)-began).Microseconds())/float64(len(took)), "cpu-µs/op")
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
		}
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
