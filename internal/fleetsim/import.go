package fleetsim

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// Limits of one request of the bulk import. A line has to fit into a request.
const (
	MaxImportLines = 5000
	MaxImportBytes = 4 << 20
)

// maxImportErrors is the number of errors that are kept; the rest is counted.
const maxImportErrors = 1000

// ErrNoImport says that the endpoint has no bulk import: it is not drover.
var ErrNoImport = errors.New("the endpoint has no bulk import")

// ImportConfig says where to import to. Endpoint and the key are required.
type ImportConfig struct {
	Endpoint        string // of drover's API, http://… or https://…
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // of temporary credentials, else empty
	Region          string // default us-east-1

	CreateMissing bool              // create the thing types and groups that lines name
	BatchLines    int               // lines in one request; default and most MaxImportLines
	Progress      func(lines int64) // told, after each request, how many lines of the input are dealt with
	Client        *http.Client      // default: one with a time limit of two minutes
}

// ImportResult says what an import has done.
type ImportResult struct {
	Lines     int64       `json:"lines"` // dealt with, empty ones included
	Created   int64       `json:"created"`
	Updated   int64       `json:"updated"`
	Unchanged int64       `json:"unchanged"`
	Failed    int64       `json:"failed"` // lines that were refused
	Errors    []LineError `json:"errors"` // the first 1,000 of them, in the order of lines
}

// LineError says why a line was refused.
type LineError struct {
	Line    int64  `json:"line"` // in the input, from 1 on
	Message string `json:"message"`
}

// Import reads things, one JSON object a line, and puts them into the registry:
//
//	{"thingName":"press-0042","thingTypeName":"press","attributes":{"hall":"3"},"groups":["hall-3"]}
//
// It holds two requests' worth of lines at most: one is sent while the next is
// read. Empty lines are skipped, refused ones are told in the result. Importing
// the same again changes nothing, so a request that failed for a reason that may
// pass is repeated. Returns ErrNoImport if the endpoint is not drover; with any
// error the result says how far the import came.
func Import(ctx context.Context, cfg ImportConfig, r io.Reader) (ImportResult, error) {
	return importLines(ctx, cfg, readLines(r))
}

// importLine is a line of the input: its text, valid until the next is asked
// for, or what is wrong with it.
type importLine struct {
	number int64
	text   []byte
	wrong  string
}

// importBatch is what one request carries.
type importBatch struct {
	body    []byte
	numbers []int64     // of the body's lines, in the input
	wrong   []LineError // lines that are not sent
	last    int64       // number of the last line
}

func importLines(ctx context.Context, cfg ImportConfig, lines iter.Seq2[importLine, error]) (ImportResult, error) {
	result := ImportResult{Errors: []LineError{}}
	a, err := newAPI(cfg.Endpoint, cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken, cfg.Region, cfg.Client)
	if err != nil {
		return result, err
	}
	path := "/_drover/import?create=" + strconv.FormatBool(cfg.CreateMissing)

	// Unbuffered: while one batch is sent, the next is made and waits.
	batches := make(chan importBatch)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(batches)
		size := MaxImportLines
		if cfg.BatchLines > 0 {
			size = min(size, cfg.BatchLines)
		}
		return makeBatches(ctx, size, lines, batches)
	})
	work.Go(func() error {
		for b := range batches {
			if err := result.send(ctx, a, path, b); err != nil {
				return err
			}
			if cfg.Progress != nil {
				cfg.Progress(result.Lines)
			}
		}
		return nil
	})
	err = work.Wait()
	return result, err
}

// makeBatches groups lines into requests.
func makeBatches(ctx context.Context, size int, lines iter.Seq2[importLine, error], out chan<- importBatch) error {
	var b importBatch
	emit := func() error {
		select {
		case out <- b:
			b = importBatch{}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for l, err := range lines {
		if err != nil {
			return err
		}
		if len(b.numbers)+len(b.wrong) == size || len(b.body)+len(l.text)+1 > MaxImportBytes {
			if err := emit(); err != nil {
				return err
			}
		}
		b.last = l.number
		switch {
		case l.wrong != "":
			b.wrong = append(b.wrong, LineError{Line: l.number, Message: l.wrong})
		case len(l.text) > 0:
			b.body = append(append(b.body, l.text...), '\n')
			b.numbers = append(b.numbers, l.number)
		}
	}
	if b.last == 0 {
		return nil
	}
	return emit()
}

// send imports a batch and adds what became of it to the result.
func (r *ImportResult) send(ctx context.Context, a *api, path string, b importBatch) error {
	var answer struct {
		Created   int64 `json:"created"`
		Updated   int64 `json:"updated"`
		Unchanged int64 `json:"unchanged"`
		Errors    []struct {
			Line    int    `json:"line"` // in the request, from 1 on
			Message string `json:"message"`
		} `json:"errors"`
	}
	if len(b.numbers) > 0 {
		err := a.call(ctx, http.MethodPost, path, b.body, &answer)
		if refusal, ok := errors.AsType[*apiError](err); ok && refusal.unknownOperation() {
			return fmt.Errorf("%w: %w", ErrNoImport, err)
		}
		if err != nil {
			return fmt.Errorf("import lines %d to %d: %w", b.numbers[0], b.last, err)
		}
	}
	// Both lists are in the order of lines: merge them.
	wrong := b.wrong
	for _, e := range answer.Errors {
		if e.Line < 1 || e.Line > len(b.numbers) {
			return fmt.Errorf("import lines %d to %d: the answer speaks of line %d", b.numbers[0], b.last, e.Line)
		}
		line := b.numbers[e.Line-1]
		for len(wrong) > 0 && wrong[0].Line < line {
			r.refuse(wrong[0])
			wrong = wrong[1:]
		}
		r.refuse(LineError{Line: line, Message: e.Message})
	}
	for _, e := range wrong {
		r.refuse(e)
	}
	r.Created += answer.Created
	r.Updated += answer.Updated
	r.Unchanged += answer.Unchanged
	r.Lines = b.last
	return nil
}

func (r *ImportResult) refuse(e LineError) {
	r.Failed++
	if len(r.Errors) < maxImportErrors {
		r.Errors = append(r.Errors, e)
	}
}

// unknownOperation reports whether the server does not know the path.
func (e *apiError) unknownOperation() bool {
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return e.Code == "UnknownOperationException" || e.Code == "MissingAuthenticationTokenException"
}

// readLines yields the lines of r, holding one at a time. A line that cannot be
// sent is yielded without its text.
func readLines(r io.Reader) iter.Seq2[importLine, error] {
	return func(yield func(importLine, error) bool) {
		in := bufio.NewReaderSize(r, 64<<10)
		var line []byte
		var length int // of the line so far; line holds no more than can be sent
		for number := int64(1); ; {
			part, err := in.ReadSlice('\n')
			if length += len(part); length <= MaxImportBytes {
				line = append(line, part...)
			}
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				continue
			case err != nil && !errors.Is(err, io.EOF):
				yield(importLine{}, fmt.Errorf("read line %d: %w", number, err))
				return
			}
			if length > 0 {
				l := importLine{number: number, text: bytes.TrimSpace(line)}
				if length > MaxImportBytes {
					l = importLine{number: number, wrong: fmt.Sprintf("line of more than %d bytes", MaxImportBytes)}
				}
				if !yield(l, nil) {
					return
				}
			}
			if err != nil {
				return
			}
			number++
			line, length = line[:0], 0
		}
	}
}
