package dataplane

import (
	"container/list"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"drover/internal/iot"
)

// Streams finds the files that devices fetch over MQTT.
type Streams interface {
	// Stream returns a stream. NotFound.
	Stream(ctx context.Context, id string) (*iot.Stream, error)
	// Open opens a file of a stream. iot.ETagMismatch, also from reading it, if it is not what it was
	// when the stream was made; NotFound; InvalidRequest if the store does not let it be read.
	Open(ctx context.Context, f iot.StreamFile) (Blob, error)
}

// Blob is a file that is open for reading.
type Blob interface {
	io.ReaderAt
	io.Closer
}

// Bounds of the delivery of files. A device asks for at most 128 KB at a time.
const (
	// deliverers is how many devices are served at a time; the others wait for their turn.
	deliverers = 16
	// turnBytes is about how much a device gets in a turn before it is the next one's.
	turnBytes = 32 << 10
	// maxBacklog is how many bytes may be on their way to a device that gets more.
	maxBacklog = 64 << 10
	// requestsWaiting is how many requests of a device wait, and bytesWaiting what those of all take, more or
	// less; who asks for more is told to come again.
	requestsWaiting = 8
	bytesWaiting    = 64 << 20
	// fileTimeout is how long a device may take for what it has asked for. What is left then is not sent: it
	// is up to devices to ask again.
	fileTimeout = time.Minute
	// A device that is behind is looked at again after a pause, which doubles up to the longest.
	firstPause   = 5 * time.Millisecond
	longestPause = time.Second
)

// files delivers files to devices (registry spec §8.4): to each what it asks for, in the order in which it
// asks, and no faster than it takes it. Devices come in turns, so that none waits for all that
// another wants.
type files struct {
	streams Streams // nil: there are none
	metrics requestMetrics
	bytes   prometheus.Counter
	log     *slog.Logger
	running sync.WaitGroup

	mu      sync.Mutex
	ready   list.List          // of *reader: whose turn it is next
	readers map[Client]*reader // that wait for something
	waiting int                // bytes that their requests take
	room    int                // bytes that they may take
	workers int
}

// reader is a device that has asked for something. Its fields are of the lock of files, or of the worker
// whose turn it is.
type reader struct {
	client   Client
	requests []*fileRequest // the first one is being answered
	pause    time.Duration  // how long it was left alone the last time
}

// fileRequest is a request that waits for its turn, or is being answered.
type fileRequest struct {
	*streamRequest
	topic string // as it came
	qos   byte   // of answers
	until time.Time

	file iot.StreamFile
	left []iot.Block // to be sent; nil: it has not begun
}

// size is about how many bytes the request takes while it waits.
func (r *fileRequest) size() int { return 512 + len(r.blocks.Bitmap) }

func newFiles(cfg *Config, log *slog.Logger, metrics requestMetrics) *files {
	f := &files{streams: cfg.Streams, metrics: metrics, log: log, readers: make(map[Client]*reader), room: bytesWaiting}
	f.bytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "drover_stream_bytes_total", Help: "Bytes of files that devices were sent over MQTT.",
	})
	if cfg.Metrics != nil && cfg.Streams != nil {
		cfg.Metrics.MustRegister(f.bytes)
	}
	return f
}

// take takes a request that c published. The answers go to c alone, with the QoS of its subscription.
func (f *files) take(c Client, m Message, t streamTopic) {
	r := &fileRequest{topic: m.Topic, qos: min(m.QoS, 1)}
	var err error
	r.streamRequest, err = decodeStream(t, m.Payload)
	if qos, ok := c.Granted(t.answer("data")); ok {
		r.qos = qos
	}
	switch {
	case err != nil:
	case t.verb != describing && t.verb != getting:
		err = iot.Errorf(invalidTopic, "The topic %s is that of no operation on streams", m.Topic)
	default:
		err = f.queue(c, r)
	}
	if err != nil {
		f.reject(c, r, err)
	}
}

// queue lets a request wait for its turn.
func (f *files) queue(c Client, r *fileRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	who := f.readers[c]
	switch {
	case f.waiting+r.size() > f.room:
		return iot.Errorf(iot.Throttled, "Too many requests for files are waiting")
	case who != nil && len(who.requests) >= requestsWaiting:
		return iot.Errorf(iot.Throttled, "%d requests of the device are waiting", requestsWaiting)
	}
	f.waiting += r.size()
	if who != nil {
		who.requests = append(who.requests, r)
		return nil
	}
	who = &reader{client: c, requests: []*fileRequest{r}}
	f.readers[c] = who
	f.readyLocked(who)
	return nil
}

// readyLocked gives a device the last turn of those that are waited for.
func (f *files) readyLocked(who *reader) {
	f.ready.PushBack(who)
	if f.workers < deliverers {
		f.workers++
		f.running.Go(f.work)
	}
}

// work serves devices as long as there are any that wait.
func (f *files) work() {
	for {
		f.mu.Lock()
		if f.ready.Len() == 0 {
			f.workers--
			f.mu.Unlock()
			return
		}
		who := f.ready.Remove(f.ready.Front()).(*reader)
		r := who.requests[0]
		f.mu.Unlock()

		done, behind := f.turn(who.client, r)

		f.mu.Lock()
		if done {
			f.waiting -= r.size()
			who.requests = slices.Delete(who.requests, 0, 1)
		}
		switch {
		case len(who.requests) == 0:
			delete(f.readers, who.client)
		case behind:
			who.pause = max(firstPause, min(2*who.pause, longestPause))
			time.AfterFunc(who.pause, func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.readyLocked(who)
			})
		default:
			who.pause = 0
			f.readyLocked(who)
		}
		f.mu.Unlock()
	}
}

// turn goes on answering a request. done says that it has been answered, or never will be; behind that the
// device has to take what it was sent before it gets more.
func (f *files) turn(c Client, r *fileRequest) (done, behind bool) {
	now := time.Now() // not of the clock that tests move: it is about how fast a device is
	if r.until.IsZero() {
		r.until = now.Add(fileTimeout)
	}
	backlog, connected := c.Backlog()
	switch {
	case !connected:
		return true, false
	case backlog > maxBacklog && now.After(r.until):
		f.log.Debug("device does not take what it has asked for", "client", c.ID(), "topic", r.topic)
		return true, false
	case backlog > maxBacklog:
		return false, true
	}
	ctx, cancel := context.WithDeadline(context.Background(), r.until)
	defer cancel()
	done, err := f.answer(ctx, c, r)
	if err != nil {
		f.reject(c, r, err)
	}
	return done || err != nil, false
}

// answer begins to answer a request, or goes on as far as a turn is long.
func (f *files) answer(ctx context.Context, c Client, r *fileRequest) (done bool, err error) {
	if r.left == nil {
		stream, err := f.streams.Stream(ctx, r.to.stream)
		if err != nil {
			return false, err
		}
		if r.to.verb == describing {
			f.describe(c, r, stream)
			return true, nil
		}
		if r.file, err = r.blocks.Find(stream); err != nil {
			return false, err
		}
	}
	blob, err := f.streams.Open(ctx, r.file)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	if r.left == nil { // after the file was found to be what it was (registry spec A-31)
		if r.left, err = r.blocks.Blocks(r.file.Size); err != nil {
			// Of an object elsewhere it is known only when it is read whether it is what it was.
			if _, changed := blob.ReadAt(make([]byte, 1), 0); iot.ErrorCode(changed) == iot.ETagMismatch {
				err = changed
			}
			return false, err
		}
		f.metrics.requests.WithLabelValues("mqtt", "GetStream", resultAccepted).Inc()
	}
	for sent := 0; len(r.left) > 0 && sent < turnBytes; {
		b := r.left[0]
		data := make([]byte, b.Length)
		if _, err := blob.ReadAt(data, b.Offset); err != nil && !errors.Is(err, io.EOF) { // an io.ReaderAt may say so at the end
			return false, err
		}
		f.send(c, r, "data", streamBlock{Token: r.token, File: r.file.ID, Length: b.Length, ID: b.ID, Payload: data})
		f.bytes.Add(float64(b.Length))
		sent += len(data)
		r.left = r.left[1:]
	}
	return len(r.left) == 0, nil
}

func (f *files) describe(c Client, r *fileRequest, stream *iot.Stream) {
	out := streamDescription{Token: r.token, Version: stream.Version, Description: stream.Description, Files: make([]streamFile, len(stream.Files))}
	for i, file := range stream.Files {
		out.Files[i] = streamFile{file.ID, file.Size}
	}
	f.metrics.requests.WithLabelValues("mqtt", "DescribeStream", resultAccepted).Inc()
	f.send(c, r, "description", out)
}

// reject tells a device why its request is not answered.
func (f *files) reject(c Client, r *fileRequest, err error) {
	out := streamRejected{Token: r.token, Code: iot.Internal, Message: errInternal.Message}
	if e, ok := errors.AsType[*iot.Error](err); ok {
		out.Code, out.Message = e.Code, e.Message
	}
	switch out.Code {
	case iot.InvalidRequest, invalidJSON, invalidCBOR, invalidTopic, iot.NotFound, iot.VersionMismatch, iot.ETagMismatch, iot.Unauthorized,
		iot.BlockSizeOutOfBounds, iot.OffsetOutOfBounds, iot.BlockCountLimitExceeded, iot.BlockBitmapLimitExceeded:
	case iot.Throttled: // there is no code of its own for that (registry spec §8.5)
		out.Code = iot.Internal
	default:
		f.log.Error("file not delivered", "client", c.ID(), "topic", r.topic, "err", err)
		out.Code, out.Message = iot.Internal, errInternal.Message
	}
	operation := "GetStream"
	if r.to.verb == describing {
		operation = "DescribeStream"
	}
	f.metrics.requests.WithLabelValues("mqtt", operation, string(out.Code)).Inc()
	f.send(c, r, "rejected", out)
}

// send writes an answer in the format of its request.
func (f *files) send(c Client, r *fileRequest, kind string, answer any) {
	text, err := formats[r.to.format].marshal(answer)
	if err != nil {
		f.log.Error("answer to a device cannot be written", "topic", r.topic, "err", err)
		return
	}
	c.Deliver(r.to.answer(kind), text, r.qos)
}
