package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A fleet connects over WebSocket to a server that offers nothing else.
func TestFleetOverWebSocket(t *testing.T) {
	data := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan int, 1)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		served <- run(ctx, []string{"serve", "--data", data, "--http", "127.0.0.1:0", "--mqtt", "", "--log-level", "error"}, out, out)
	}()
	defer func() {
		stop()
		if exit := <-served; exit != 0 {
			t.Errorf("serve: exit code %d: %s", exit, contents(t, out))
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := readEndpoints(data)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(errors.Join(errors.New("no server"), err))
		}
		<-time.After(10 * time.Millisecond)
	}
	exit, summary, errs := command(t, "fleet", "--data", data, "--protocol", "ws", "--things", "20", "--mqtt-version", "5", "--idle", "200ms", "--json")
	if exit != 0 || !strings.Contains(summary, `"requests":20,"rejected":0,"errors":0`) {
		t.Errorf("exit code %d, %s%s", exit, summary, errs)
	}
}
