package faulttest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

func TestProxy(t *testing.T) {
	t.Parallel()
	p := NewProxy(t, "tcp", echo(t))
	dial := func() (net.Conn, *bufio.Reader) {
		t.Helper()
		c, err := net.Dial("tcp", p.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, bufio.NewReader(c)
	}
	say := func(c net.Conn, r *bufio.Reader) error {
		_, err := io.WriteString(c, "hello\n")
		if err != nil {
			return err
		}
		line, err := r.ReadString('\n')
		if err == nil && line != "hello\n" {
			t.Errorf("came back as %q", line)
		}
		return err
	}
	c, r := dial()
	if err := say(c, r); err != nil {
		t.Fatal(err)
	}
	p.Delay(30 * time.Millisecond)
	began := time.Now()
	if err := say(c, r); err != nil || time.Since(began) < 60*time.Millisecond {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	p.Delay(0)

	p.Silence(true)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := say(c, r); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("through silence: %v", err)
	}
	p.Silence(false)
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("after silence: %q %v", line, err)
	}

	p.Cut()
	if err := say(c, r); err == nil {
		t.Error("cut, and it goes on")
	}
	c, r = dial()
	if err := say(c, r); err != nil {
		t.Error(err)
	}
	p.Down(true)
	if err := say(c, r); err == nil {
		t.Error("down, and it goes on")
	}
	if c, r = dial(); say(c, r) == nil {
		t.Error("down, and it comes up")
	}
	p.Down(false)
	if c, r = dial(); say(c, r) != nil {
		t.Error("up, and it is down")
	}
	p.Chance(1)
	if say(c, r) == nil {
		t.Error("it had no chance")
	}
}
