package controlplane

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"drover/internal/iot"
	"drover/internal/wire"
)

// maxImport is the size of the body of an import in bytes.
const maxImport = 8 << 20

// ServeImport creates and updates things in bulk: POST with a body of JSON objects, one a
// line, at most iot.MaxImportLines and 8 MiB. Empty lines are skipped. A line has
//
//	{"thingName":"lamp-1","thingTypeName":"lamp","attributes":{"color":"red"},"groups":["hall"]}
//
// of which only thingName is required; other members make the line an error. With
// ?create=true types and groups that do not exist are created. The answer is an
// iot.ImportResult: bad lines are listed in it by number, from 1, and spoil nothing else.
//
// It is an operation of drover's own. The caller must have checked the signature.
func (s *Server) ServeImport(w http.ResponseWriter, r *http.Request) {
	result, err := s.importThings(r)
	if err != nil {
		wire.WriteError(w, s.importError(r, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(result); err != nil {
		s.log.DebugContext(r.Context(), "import answer not delivered", "err", err)
	}
}

func (s *Server) importThings(r *http.Request) (*iot.ImportResult, error) {
	if r.Method != http.MethodPost {
		return nil, s.service.NewError("MethodNotAllowedException", "Import takes POST, not "+r.Method)
	}
	create := false
	if text := r.URL.Query().Get("create"); text != "" {
		var err error
		if create, err = strconv.ParseBool(text); err != nil {
			return nil, iot.Invalid("create", text, "Member must be true or false")
		}
	}
	lines, bad, err := readImport(http.MaxBytesReader(nil, r.Body, maxImport))
	if err != nil {
		return nil, err
	}
	result, err := s.registry.Import(r.Context(), iot.Import{Lines: lines, CreateMissing: create, Actor: actor(r.Context())})
	if err != nil {
		return nil, err
	}
	result.Errors = append(append([]iot.ImportError{}, bad...), result.Errors...) // [] and not null if there are none
	slices.SortFunc(result.Errors, func(a, b iot.ImportError) int { return cmp.Compare(a.Line, b.Line) })
	return &result, nil
}

// importError renders an error that importThings returned.
func (s *Server) importError(r *http.Request, err error) *wire.Error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return s.service.NewError("RequestEntityTooLargeException", fmt.Sprintf("An import takes at most %d bytes at a time", maxImport))
	}
	if refused, ok := errors.AsType[*wire.Error](err); ok {
		return refused
	}
	if e := s.mapError(err); e != nil {
		return e
	}
	s.log.ErrorContext(r.Context(), "import failed", "err", err)
	return s.service.NewError(internalFailure, "An internal failure occurred")
}

// readImport reads the lines of an import: those that can be decoded, and an error for each
// of the others. It fails if the body cannot be read, or holds more lines than an import takes.
func readImport(body io.Reader) (lines []iot.ImportLine, bad []iot.ImportError, err error) {
	in := bufio.NewScanner(body)
	in.Buffer(nil, maxImport+1) // a line can be the whole body
	for number := 1; in.Scan(); number++ {
		text := bytes.TrimSpace(in.Bytes())
		if len(text) == 0 {
			continue
		}
		if len(lines)+len(bad) == iot.MaxImportLines {
			return nil, nil, iot.Errorf(iot.InvalidRequest, "An import takes at most %d lines at a time", iot.MaxImportLines)
		}
		line := iot.ImportLine{Number: number}
		if err := decodeLine(text, &line); err != nil {
			bad = append(bad, iot.ImportError{Line: number, Message: err.Error()})
			continue
		}
		lines = append(lines, line)
	}
	return lines, bad, in.Err()
}

func decodeLine(text []byte, line *iot.ImportLine) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(line); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s cannot be a JSON %s", cmp.Or(wrong.Field, "a line"), wrong.Value)
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("a line must be one JSON object")
	}
	return nil
}
