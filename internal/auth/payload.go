package auth

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// chunkSigner signs for one request: first the request, then chunk after chunk, each with
// the signature of the one before it.
type chunkSigner struct {
	key      signingKey
	at       string // time of the request, in AWS's basic format
	scope    string
	previous string // hexadecimal
}

// sign signs lines under a heading.
func (s chunkSigner) sign(heading string, lines ...string) [sha256.Size]byte {
	return sum(s.key[:], heading+"\n"+s.at+"\n"+s.scope+"\n"+strings.Join(lines, "\n"))
}

// openPayload puts the reader into r that gives the payload and ends well only if it is
// what was signed.
func openPayload(r *http.Request, content string, signer chunkSigner) *Error {
	r.Trailer = nil // what the transport may bring behind the body is not signed
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	switch content {
	case unsignedPayload:
		return nil
	case streamingUnsignedTrailer, streamingSigned, streamingSignedTrailer:
		values := r.Header.Values("X-Amz-Decoded-Content-Length")
		if len(values) != 1 {
			return s3Error(CodeS3MissingLength, http.StatusLengthRequired, "You must provide the X-Amz-Decoded-Content-Length HTTP header.")
		}
		length, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil || length < 0 {
			return s3Error(CodeS3InvalidArgument, http.StatusBadRequest, "X-Amz-Decoded-Content-Length must be a number of bytes")
		}
		r.ContentLength = length
		chunks := &chunkReader{body: body, in: bufio.NewReaderSize(body, 32<<10), left: length, request: r,
			trailer: content != streamingSigned, announced: r.Header.Values("X-Amz-Trailer")}
		if content != streamingUnsignedTrailer {
			chunks.signer, chunks.hash = &signer, sha256.New()
		}
		r.Body = chunks
	default:
		r.Body = &hashedReader{body: body, hash: sha256.New(), want: content}
	}
	return nil
}

// hashedReader ends well only if what was read has the hash.
type hashedReader struct {
	body io.ReadCloser
	hash hash.Hash
	want string
}

func (h *hashedReader) Read(p []byte) (int, error) {
	n, err := h.body.Read(p)
	h.hash.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(h.hash.Sum(nil)) != h.want {
		err = s3Error(CodeS3ContentMismatch, http.StatusBadRequest, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return n, err
}

func (h *hashedReader) Close() error { return h.body.Close() }

// The lines of an aws-chunked body have few forms; what is longer is none of them.
const (
	maxChunkLine = 4 << 10
	maxTrailers  = 16
)

// chunkReader decodes an aws-chunked body:
//
//	SIZE[;chunk-signature=SIGNATURE] CRLF data CRLF … 0[;…] CRLF [trailers] CRLF
type chunkReader struct {
	body      io.Closer
	in        *bufio.Reader
	request   *http.Request // gets the trailer
	announced []string      // names of trailers in X-Amz-Trailer
	trailer   bool          // there may be one
	left      int64         // bytes of payload that are still to come
	chunk     int64         // of these, in the chunk that is being read
	begun     bool          // a chunk has begun that has not ended
	err       error         // sticky

	signer    *chunkSigner // nil: chunks carry no signature
	hash      hash.Hash    // of the chunk that is being read
	signature string       // that it claims
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if len(p) == 0 || c.err != nil {
		return 0, c.err
	}
	n, err := c.read(p)
	if refusal := (*Error)(nil); err != nil && err != io.EOF && !errors.As(err, &refusal) && errors.Is(err, io.ErrUnexpectedEOF) {
		err = badChunk("the body ended early")
	}
	c.err = err
	return n, err
}

func (c *chunkReader) read(p []byte) (int, error) {
	for c.chunk == 0 {
		if err := c.endChunk(); err != nil {
			return 0, err
		}
		if err := c.beginChunk(); err != nil {
			return 0, err
		}
		if c.chunk == 0 {
			return 0, c.end()
		}
	}
	n, err := c.in.Read(p[:min(int64(len(p)), c.chunk)])
	c.chunk -= int64(n)
	c.left -= int64(n)
	if c.hash != nil {
		c.hash.Write(p[:n])
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func badChunk(what string) *Error {
	return s3Error(CodeS3IncompleteBody, http.StatusBadRequest, "The request body is not what aws-chunked says: %s", what)
}

// line reads a line without its CRLF.
func (c *chunkReader) line() (string, error) {
	line, err := c.in.ReadSlice('\n')
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && len(line) > maxChunkLine || errors.Is(err, bufio.ErrBufferFull) {
		return "", badChunk("a line is too long")
	}
	if err != nil {
		return "", err
	}
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		return "", badChunk("a line does not end in CRLF")
	}
	return text, nil
}

func (c *chunkReader) beginChunk() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(size, 16, 63)
	if err != nil || size[0] == '+' {
		return badChunk("a chunk does not begin with its size")
	}
	if int64(n) > c.left {
		return badChunk("it is longer than x-amz-decoded-content-length")
	}
	if c.signer != nil {
		signature, ok := strings.CutPrefix(extension, "chunk-signature=")
		if !ok || len(signature) != 2*sha256.Size {
			return badChunk("a chunk has no signature")
		}
		c.signature = signature
		c.hash.Reset()
	}
	c.chunk, c.begun = int64(n), true
	return nil
}

// endChunk checks what has been read since beginChunk.
func (c *chunkReader) endChunk() error {
	if !c.begun {
		return nil
	}
	c.begun = false
	if line, err := c.line(); err != nil {
		return err
	} else if line != "" {
		return badChunk("a chunk does not end where its size says")
	}
	return c.checkChunk()
}

func (c *chunkReader) checkChunk() error {
	if c.signer == nil {
		return nil
	}
	signature := c.signer.sign(algorithm+"-PAYLOAD", c.signer.previous, emptyHash, hex.EncodeToString(c.hash.Sum(nil)))
	return c.follow(signature, c.signature, "chunk")
}

// follow checks a signature and makes it the one before the next.
func (c *chunkReader) follow(want [sha256.Size]byte, got, of string) error {
	text := hex.EncodeToString(want[:])
	if subtle.ConstantTimeCompare([]byte(text), []byte(got)) != 1 {
		return mismatch(of)
	}
	c.signer.previous = text
	return nil
}

// end reads what is behind the last chunk, which has no data and no CRLF of its own.
func (c *chunkReader) end() error {
	if c.left > 0 {
		return badChunk("it is shorter than x-amz-decoded-content-length")
	}
	if err := c.checkChunk(); err != nil {
		return err
	}
	trailer := make(http.Header)
	var canonical strings.Builder
	signature := ""
	for range maxTrailers {
		line, err := c.line()
		// Some clients leave the last CRLF out.
		if line == "" && (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) {
			return c.finish(trailer, canonical.String(), signature)
		}
		if err != nil {
			return err
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		value = strings.TrimSpace(value)
		switch {
		case !ok || !c.trailer:
			return badChunk("a line behind the last chunk is no trailer")
		case name == "x-amz-trailer-signature":
			signature = value
		case signature != "":
			return badChunk("there is a trailer behind the signature of the trailers")
		case !c.announces(name):
			return badChunk("a trailer is not announced in x-amz-trailer")
		default:
			canonical.WriteString(name + ":" + value + "\n")
			trailer.Add(name, value)
		}
	}
	return badChunk("it has too many trailers")
}

func (c *chunkReader) announces(name string) bool {
	for _, list := range c.announced {
		for n := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(n), name) {
				return true
			}
		}
	}
	return false
}

func (c *chunkReader) finish(trailer http.Header, canonical, signature string) error {
	if c.signer != nil && c.trailer {
		hash := sha256.Sum256([]byte(canonical))
		want := c.signer.sign(algorithm+"-TRAILER", c.signer.previous, hex.EncodeToString(hash[:]))
		if err := c.follow(want, signature, "trailer"); err != nil {
			return err
		}
	}
	c.request.Trailer = trailer
	return io.EOF
}

func (c *chunkReader) Close() error { return c.body.Close() }
