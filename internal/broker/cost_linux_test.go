package broker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// BenchmarkCostAnswers: requests a second that are answered in process, QoS 1 both ways,
// of 2,000 connections with 200 at work; and mosquitto's echoes to the same clients.
//
// Server and clients share the processors, so what the clients cost is taken from the
// faster server: they are one loop over descriptors, not goroutines.
func BenchmarkCostAnswers(b *testing.B) {
	const connections, active, seconds = 2000, 200, 5
	for range b.N {
		rate := func(p *process, topic string) (perSecond, cpu float64) {
			devices := p.join(0, connections)
			before := p.cpu()
			count, err := askInTurn(devices[:active], topic, time.Now().Add(seconds*time.Second))
			if err != nil {
				b.Error(err)
			}
			return float64(count) / seconds, float64((p.cpu() - before).Microseconds()) / float64(count)
		}
		b.Run("", func(b *testing.B) {
			ours, cpu := rate(startBroker(b, "plain"), "ask")
			theirs, cpuOfTheirs := rate(startMosquitto(b), "ask/accepted")
			b.ReportMetric(ours, "answers/s")
			b.ReportMetric(ours/theirs, "answers/echo")
			b.ReportMetric(cpu, "cpu-us/answer")
			b.ReportMetric(cpuOfTheirs, "cpu-us/echo")
		})
	}
}

// asker is a device that asks, waits for acknowledgement and answer, acknowledges that,
// and asks again.
type asker struct {
	fd      int
	request []byte
	in, out []byte
	seen    int // 1: the acknowledgement, 2: the answer
}

// askInTurn has the devices ask as fast as they are answered, until stop. It returns how
// many answers there were.
func askInTurn(devices []*device, topic string, stop time.Time) (count int64, err error) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, syscall.Close(poll)) }()
	askers := map[int32]*asker{}
	for i, d := range devices {
		raw, err := d.conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			return 0, err
		}
		a := &asker{in: make([]byte, 0, 4<<10)}
		if err := raw.Control(func(fd uintptr) { a.fd = int(fd) }); err != nil {
			return 0, err
		}
		m := Message{Topic: topicOf(i) + topic, Payload: bytes.Repeat([]byte("x"), 200), QoS: 1}
		a.request, _ = encodePublish(&m, 4, 1, false, false, 7, time.Time{})
		askers[int32(a.fd)] = a
		event := syscall.EpollEvent{Events: syscall.EPOLLIN | epollET, Fd: int32(a.fd)}
		if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, a.fd, &event); err != nil {
			return 0, err
		}
		if _, err := syscall.Write(a.fd, a.request); err != nil {
			return 0, err
		}
	}
	var events [128]syscall.EpollEvent
	for waiting := len(askers); waiting > 0; {
		n, err := syscall.EpollWait(poll, events[:], int(patience.Milliseconds()))
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return count, err
		case n == 0:
			return count, errors.New("no answer")
		}
		over := !time.Now().Before(stop)
		for _, e := range events[:n] {
			answered, err := askers[e.Fd].hear(over)
			if err != nil {
				return count, err
			}
			if answered {
				if count++; over {
					waiting--
				}
			}
		}
	}
	return count, nil
}

// hear reads what has come. If that was all of an answer it acknowledges it and asks
// again, unless time is over.
func (a *asker) hear(over bool) (answered bool, err error) {
	n, err := syscall.Read(a.fd, a.in[len(a.in):cap(a.in)])
	if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		return false, err
	}
	a.in = a.in[:len(a.in)+n]
	rest := a.in
	a.out = a.out[:0]
	for {
		f, size, err := parseFrame(rest, 1<<20)
		if err != nil {
			return false, err
		}
		if size == 0 || size > len(rest) {
			break
		}
		rest = rest[size:]
		switch f.kind {
		case typePuback:
			a.seen |= 1
		case typePublish:
			topic := int(binary.BigEndian.Uint16(f.body))
			a.seen |= 2
			a.out = appendPuback(a.out, binary.BigEndian.Uint16(f.body[2+topic:]), 0)
		default:
			return false, fmt.Errorf("got packet type %d", f.kind)
		}
	}
	a.in = a.in[:copy(a.in, rest)]
	if answered = a.seen == 3; answered {
		if a.seen = 0; !over {
			a.out = append(a.out, a.request...)
		}
	}
	if len(a.out) > 0 {
		_, err = syscall.Write(a.fd, a.out)
	}
	return answered, err
}
