package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Timestamp is a point in time that is a JSON number on the wire: seconds since the epoch with at most 3 decimals
// (1486687079.743), without a fraction if it is whole. Finer digits are cut off. The zero Timestamp is null; tag a member
// omitzero to leave it out.
type Timestamp struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	ms := t.UnixMilli()
	var b []byte
	if ms < 0 {
		b, ms = append(b, '-'), -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if rest := ms % 1000; rest != 0 {
		b = append(b, strings.TrimRight(fmt.Sprintf(".%03d", rest), "0")...)
	}
	return b, nil
}

// UnmarshalJSON implements json.Unmarshaler. The result is in UTC and rounded to milliseconds.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*t = Timestamp{}
		return nil
	}
	// 0001-01-01 to 9999-12-31, what RFC 3339 can write.
	const first, last = -62135596800, 253402300799
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || seconds < first || seconds > last {
		return errors.New("must be a timestamp, a number of seconds since the epoch")
	}
	t.Time = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	return nil
}
