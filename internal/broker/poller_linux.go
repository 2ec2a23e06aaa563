package broker

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// A poller waits for all quiet plain sockets at once, so that they need no goroutine. It
// is an epoll descriptor of its own, which the runtime's in turn waits for.
//
// Events are edges: a socket is registered once, and every arrival of bytes is one event,
// until the socket is closed.
type poller struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool

	mu      sync.RWMutex
	clients map[int32]*Client // by descriptor
}

const epollET = 1 << 31 // syscall.EPOLLET, which has a sign

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("broker: epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that the runtime waits for it
		return nil, fmt.Errorf("broker: epoll: %w", errors.Join(err, syscall.Close(fd)))
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), clients: map[int32]*Client{}}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, fmt.Errorf("broker: epoll: %w", errors.Join(err, p.file.Close()))
	}
	return p, nil
}

// run wakes clients until close. It reports what made it impossible to go on.
func (p *poller) run() error {
	var events [256]syscall.EpollEvent
	var awake []*Client
	var n int
	var failed error
	take := func(fd uintptr) bool {
		for {
			n, failed = syscall.EpollWait(int(fd), events[:], 0)
			if !errors.Is(failed, syscall.EINTR) {
				return n != 0
			}
		}
	}
	for {
		err := p.raw.Read(take)
		if p.closed.Load() {
			return nil
		}
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("broker: epoll: %w", err)
		}
		p.mu.RLock()
		for _, e := range events[:n] {
			// A client may be another one than the event was for, if descriptors are
			// used again: it finds nothing to do.
			if c := p.clients[e.Fd]; c != nil {
				if e.Events&^syscall.EPOLLIN != 0 {
					c.rest.hungUp.Store(true)
				}
				awake = append(awake, c)
			}
		}
		p.mu.RUnlock()
		for i, c := range awake {
			c.wake()
			awake[i] = nil
		}
		awake = awake[:0]
	}
}

// add has c woken up whenever its socket has something, or has had since it was last read.
func (p *poller) add(c *Client) error {
	var failed error
	err := c.in.raw.Control(func(fd uintptr) {
		p.mu.Lock()
		p.clients[int32(fd)] = c
		p.mu.Unlock()
		c.rest.fd = int32(fd)
		failed = syscall.EpollCtl(int(p.fd()), syscall.EPOLL_CTL_ADD, int(fd),
			&syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | epollET, Fd: int32(fd)})
	})
	return errors.Join(err, failed)
}

// remove has c woken up no more.
func (p *poller) remove(c *Client) {
	// It fails if the socket has been closed, which takes it out as well.
	_ = c.in.raw.Control(func(fd uintptr) {
		_ = syscall.EpollCtl(int(p.fd()), syscall.EPOLL_CTL_DEL, int(fd), nil)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[c.rest.fd] == c {
		delete(p.clients, c.rest.fd)
	}
}

func (p *poller) fd() (fd uintptr) {
	// It fails once the file is closed; then nobody asks any more.
	_ = p.raw.Control(func(f uintptr) { fd = f })
	return fd
}

// close ends run. It may be called again.
func (p *poller) close() error {
	p.closed.Store(true)
	if err := p.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
