package controlplane

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"drover/internal/iot"
)

// A nextToken is opaque to callers. It is base64, without padding and in the
// alphabet that markers of lists may have, of
//
//	version (1 byte) | cursor | checksum (16 bytes)
//
// where the checksum covers the version, the operation, the filters of the list and the cursor.
// So a token that was altered, or that is of another list, is recognised. It is no secret and
// no permission: who makes up a token sees what every caller of the list may see.
const (
	tokenVersion  = 1
	tokenChecksum = 16
	maxToken      = 4096 // characters; far more than any cursor needs
)

var errToken = iot.Errorf(iot.InvalidRequest, "Invalid nextToken: it is not one that this list returned")

// page returns the part of a list that a request asks for: op is the operation, filters the
// values that narrow the list, in a form that encoding/json can write, and def the number of
// items if the request does not say. The request has been validated, so maxResults is in range.
// Returns InvalidRequest if the token was not made by nextToken for the same operation and filters.
func (s *Server) page(op string, filters any, token *string, maxResults *int32, def int) (iot.Page, error) {
	page := iot.Page{Limit: def}
	if maxResults != nil {
		page.Limit = int(*maxResults)
	}
	if token == nil {
		return page, nil
	}
	cursor, ok := openToken(op, filters, *token)
	if !ok {
		return iot.Page{}, errToken
	}
	page.Cursor = cursor
	return page, nil
}

// nextToken returns the token that leads page to the cursor, and nil after the last page,
// which has none.
func (s *Server) nextToken(op string, filters any, cursor string) *string {
	if cursor == "" {
		return nil
	}
	body := append([]byte{tokenVersion}, cursor...)
	token := base64.RawStdEncoding.EncodeToString(append(body, checksum(op, filters, body)...))
	return &token
}

func openToken(op string, filters any, token string) (cursor string, ok bool) {
	if len(token) > maxToken {
		return "", false
	}
	data, err := base64.RawStdEncoding.DecodeString(token)
	if err != nil || len(data) < 1+1+tokenChecksum || data[0] != tokenVersion {
		return "", false
	}
	// The decoder skips line breaks and spare bits; a token has exactly one spelling.
	if base64.RawStdEncoding.EncodeToString(data) != token {
		return "", false
	}
	body, sum := data[:len(data)-tokenChecksum], data[len(data)-tokenChecksum:]
	if !bytes.Equal(sum, checksum(op, filters, body)) || !utf8.Valid(body[1:]) {
		return "", false
	}
	return string(body[1:]), true
}

// checksum panics if filters cannot be JSON, which is a mistake of this package.
func checksum(op string, filters any, body []byte) []byte {
	text, err := json.Marshal([]any{op, filters, body})
	if err != nil {
		panic(fmt.Sprintf("controlplane: filters of %s: %v", op, err))
	}
	sum := sha256.Sum256(text)
	return sum[:tokenChecksum]
}
