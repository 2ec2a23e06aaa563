package fleetsim

import (
	"container/heap"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// drive moves the bytes of the devices. A plain socket costs least if one loop over epoll
// does it for many: no goroutine to wake, and one read and one write for each answer.
func (l *loadRun) drive(ctx context.Context, askers []*asker) error {
	for _, a := range askers {
		if _, ok := a.conn.(*net.TCPConn); !ok {
			return l.driveByGoroutines(ctx, askers)
		}
	}
	loops := runtime.GOMAXPROCS(0)
	failed := make([]error, loops)
	var wg sync.WaitGroup
	for i := range loops {
		wg.Go(func() {
			var mine []*asker
			for j := i; j < len(askers); j += loops {
				mine = append(mine, askers[j])
			}
			failed[i] = l.loop(ctx, mine)
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// later is a device that asks again at a time.
type later struct {
	at    time.Time
	asker *asker
}

// calendar is a heap of those that ask again, the next first.
type calendar []later

func (c calendar) Len() int           { return len(c) }
func (c calendar) Less(i, j int) bool { return c[i].at.Before(c[j].at) }
func (c calendar) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(x any)        { *c = append(*c, x.(later)) }
func (c *calendar) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	*c = (*c)[:last]
	return x
}

func (l *loadRun) loop(ctx context.Context, askers []*asker) (err error) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Close(poll)) }()
	byFD := make(map[int32]*asker, len(askers))
	fds := make(map[*asker]int, len(askers))
	var due calendar
	start := time.Now()
	for _, a := range askers {
		raw, err := a.conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			byFD[int32(fd)], fds[a] = a, int(fd)
			failed = syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, int(fd), &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		if _, err := a.hear(time.Now()); err != nil { // what came with the SUBACK
			return err
		}
		if l.Interval > 0 {
			heap.Push(&due, later{start.Add(l.think()), a})
			continue
		}
		a.ask(time.Now())
		if err := a.say(fds[a]); err != nil {
			return ended(ctx, err)
		}
	}
	buf := make([]byte, 64<<10)
	var events [256]syscall.EpollEvent
	for ctx.Err() == nil {
		wait := 100 * time.Millisecond
		for now := time.Now(); len(due) > 0; {
			if d := due[0].at.Sub(now); d > 0 {
				wait = min(wait, d+time.Millisecond)
				break
			}
			a := heap.Pop(&due).(later).asker
			a.ask(now)
			if err := a.say(fds[a]); err != nil {
				return ended(ctx, err)
			}
		}
		n, err := syscall.EpollWait(poll, events[:], int(wait.Milliseconds()))
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			a := byFD[e.Fd]
			n, err := syscall.Read(int(e.Fd), buf)
			switch {
			case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
				continue
			case err != nil:
				return ended(ctx, err)
			case n == 0:
				return ended(ctx, io.EOF)
			}
			now := time.Now()
			a.in = append(a.in, buf[:n]...)
			again, err := a.hear(now)
			if err != nil {
				return err
			}
			switch {
			case again && l.Interval > 0:
				heap.Push(&due, later{now.Add(l.think()), a})
			case again:
				a.ask(now)
			}
			if err := a.say(int(e.Fd)); err != nil {
				return ended(ctx, err)
			}
		}
	}
	return ended(ctx, ctx.Err())
}

// say writes what is to leave.
func (a *asker) say(fd int) error {
	if len(a.out) == 0 {
		return nil
	}
	n, err := syscall.Write(fd, a.out)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		n, err = 0, nil
	}
	if err == nil && n < len(a.out) { // the server does not read: wait for it
		_, err = a.conn.Write(a.out[n:])
	}
	a.out = a.out[:0]
	return err
}
