package broker_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"drover/internal/broker"
)

// clock answers what clients publish to "time/ask", and leaves all else to the broker.
type clock struct{}

func (clock) Connected(c *broker.Client) { fmt.Println(c.ID(), "is here, from", c.RemoteAddr()) }

func (clock) Disconnected(c *broker.Client, why broker.DisconnectReason) {
	fmt.Println(c.ID(), "has gone:", why)
}

func (clock) AllowSubscribe(_ *broker.Client, filter string) bool {
	return !strings.HasPrefix(filter, "$")
}

func (clock) Publish(c *broker.Client, m broker.Message) broker.Verdict {
	if m.Topic != "time/ask" {
		return broker.Route
	}
	// The client gets its answer whether or not it is subscribed.
	answer := broker.Message{Topic: "time/answer", Payload: []byte(time.Now().Format(time.RFC3339)), QoS: m.QoS}
	if err := c.Deliver(answer); err != nil {
		log.Print(err)
	}
	return broker.Handled
}

func (clock) Subscribed(*broker.Client, []string)   {}
func (clock) Unsubscribed(*broker.Client, []string) {}

// A broker that tells the time, over TCP and over WebSocket, until it is interrupted.
func Example() {
	b, err := broker.New(broker.Config{Handler: clock{}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:1883")
	if err != nil {
		log.Fatal(err)
	}
	web := &http.Server{Addr: "127.0.0.1:8080", Handler: http.HandlerFunc(b.ServeWebSocket), ReadHeaderTimeout: 10 * time.Second}
	go func() { log.Print(b.Serve(l)) }()
	go func() { log.Print(web.ListenAndServe()) }()
	b.Publish(broker.Message{Topic: "news", Payload: []byte("open"), Retain: true})

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-interrupted.Done()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil {
		log.Print(err)
	}
	if err := b.Close(ctx); err != nil { // ends WebSockets, too
		log.Print(err)
	}
}
