package authorizer

import (
	"context"
	"sync"
	"time"
)

// watchTimeout bounds one question: the function has its own, shorter limit.
const watchTimeout = 10 * time.Second

// Watch asks about a connection again whenever the time to refresh of its decision has passed
// (identity spec §6.5): renew gets the new decision, which holds from then on. If the client is
// refused, or nobody can say, end gets the error and the connection is to be ended (AUTH_ERROR);
// after that nothing more is asked. When the connection ends is what the first decision said. stop
// ends the watch; renew and end are not called any more once it has returned.
func (a *Authenticator) Watch(r Request, d Decision, renew func(Decision), end func(error)) (stop func()) {
	if d.Refresh <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{a: a, ctx: ctx, request: r, renew: renew, end: end}
	w.mu.Lock()
	w.unset = a.cfg.AfterFunc(d.Refresh, w.again)
	w.mu.Unlock()
	return func() {
		cancel()
		w.mu.Lock() // waits for renew or end
		defer w.mu.Unlock()
		w.unset()
	}
}

type watch struct {
	a       *Authenticator
	ctx     context.Context // until stop
	request Request
	renew   func(Decision)
	end     func(error)

	mu    sync.Mutex
	unset func() bool // of the timer
}

func (w *watch) again() {
	ctx, cancel := context.WithTimeout(w.ctx, watchTimeout)
	defer cancel()
	d, err := w.a.Authorize(ctx, w.request)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ctx.Err() != nil:
	case err != nil:
		w.end(err)
	default:
		w.renew(d)
		if d.Refresh > 0 {
			w.unset = w.a.cfg.AfterFunc(d.Refresh, w.again)
		}
	}
}
