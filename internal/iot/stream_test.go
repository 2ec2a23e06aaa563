package iot

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBlockRequest(t *testing.T) {
	t.Parallel()
	stream := &Stream{ID: "s", Version: 3, Files: []StreamFile{{ID: 1, Size: 100_000}}}
	two, three := int64(2), int64(3)
	for name, c := range map[string]struct {
		r    BlockRequest
		want string
	}{
		"a range":                         {BlockRequest{File: 1, Size: 4096, Count: 2}, "0 1"},
		"a range further on":              {BlockRequest{File: 1, Size: 4096, Offset: 5, Count: 3}, "5 6 7"},
		"up to the end":                   {BlockRequest{File: 1, Size: 4096, Offset: 23, Count: 9}, "23 24(1696)"},
		"all that fits":                   {BlockRequest{File: 1, Size: 65536}, "0 1(34464)"},
		"no more than 128 KB":             {BlockRequest{File: 1, Size: 32768, Count: 5}, "0 1 2 3(1696)"},
		"one block of 128 KB":             {BlockRequest{File: 1, Size: 131072}, "0(100000)"},
		"a bitmap":                        {BlockRequest{File: 1, Size: 1024, Offset: 20, Bitmap: []byte{0x13, 0, 0x80}, Mapped: true}, "20 21 24 43"},
		"a bitmap and a count":            {BlockRequest{File: 1, Size: 1024, Offset: 20, Count: 3, Bitmap: []byte{0x13, 0, 0x80}, Mapped: true}, "20 21 24"},
		"a bitmap beyond the end":         {BlockRequest{File: 1, Size: 4096, Offset: 24, Bitmap: []byte{0xff}, Mapped: true}, "24(1696)"},
		"what AWS's C library sends":      {BlockRequest{File: 1, Size: 4096, Offset: 7, Count: 1, Bitmap: []byte("MQ=="), Mapped: true}, "7"},
		"its version":                     {BlockRequest{Version: &three, File: 1, Size: 131072}, "0(100000)"},
		"behind the end":                  {BlockRequest{File: 1, Size: 4096, Offset: 25}, "ResourceNotFound"},
		"an empty bitmap":                 {BlockRequest{File: 1, Size: 4096, Bitmap: []byte{0, 0}, Mapped: true}, "ResourceNotFound"},
		"no such file":                    {BlockRequest{File: 2, Size: 4096}, "ResourceNotFound"},
		"no such file, and the version":   {BlockRequest{Version: &two, File: 2, Size: 4096}, "ResourceNotFound"},
		"another version":                 {BlockRequest{Version: &two, File: 1, Size: 4096}, "VersionMismatch"},
		"another version, behind the end": {BlockRequest{Version: &two, File: 1, Size: 4096, Offset: 25}, "VersionMismatch"},
		"small blocks":                    {BlockRequest{File: 1, Size: 255}, "BlockSizeOutOfBounds"},
		"large blocks":                    {BlockRequest{File: 1, Size: 131073}, "BlockSizeOutOfBounds"},
		"a negative offset":               {BlockRequest{File: 1, Size: 256, Offset: -1}, "OffsetOutOfBounds"},
		"a far offset":                    {BlockRequest{File: 1, Size: 256, Offset: 98305}, "OffsetOutOfBounds"},
		"too many":                        {BlockRequest{File: 1, Size: 256, Count: 98305}, "BlockCountLimitExceeded"},
		"a negative number":               {BlockRequest{File: 1, Size: 256, Count: -1}, "BlockCountLimitExceeded"},
		"a large bitmap":                  {BlockRequest{File: 1, Size: 256, Bitmap: make([]byte, 12288), Mapped: true}, "BlockBitmapLimitExceeded"},
		"a file that cannot be":           {BlockRequest{File: 256, Size: 256}, "InvalidRequest"},
	} {
		if got := answered(&c.r, stream); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func answered(r *BlockRequest, s *Stream) string {
	if err := r.Check(); err != nil {
		return string(ErrorCode(err))
	}
	f, err := r.Find(s)
	if err != nil {
		return string(ErrorCode(err))
	}
	blocks, err := r.Blocks(f.Size)
	if err != nil {
		return string(ErrorCode(err))
	}
	var b strings.Builder
	for _, block := range blocks {
		fmt.Fprintf(&b, " %d", block.ID)
		if block.Length != r.Size {
			fmt.Fprintf(&b, "(%d)", block.Length)
		}
	}
	return b.String()[1:]
}

// Whatever is asked for: blocks ascend, lie in the file, and are never more than asked for or than 128 KB.
func TestBlocksAreBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := BlockRequest{
			File: 1, Size: rapid.Int64Range(256, 131072).Draw(t, "l"), Offset: rapid.Int64Range(0, 98304).Draw(t, "o"),
			Count: rapid.Int64Range(0, 98304).Draw(t, "n"), Mapped: rapid.Bool().Draw(t, "mapped"),
			Bitmap: rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "b"),
		}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		size := rapid.Int64Range(0, 1<<26).Draw(t, "size")
		blocks, err := r.Blocks(size)
		if (err != nil) != (len(blocks) == 0) {
			t.Fatalf("%d blocks, %v", len(blocks), err)
		}
		sum, last := int64(0), r.Offset-1
		for _, b := range blocks {
			sum += b.Length
			if b.ID <= last || b.Offset != b.ID*r.Size || b.Length < 1 || b.Offset+b.Length > size || b.Length > r.Size {
				t.Fatalf("%+v of %d bytes", b, size)
			}
			if b.Length < r.Size && b.Offset+b.Length != size {
				t.Fatalf("%+v is short and not the last of %d bytes", b, size)
			}
			last = b.ID
		}
		if sum > 131072 || r.Count > 0 && int64(len(blocks)) > r.Count {
			t.Fatalf("%d bytes in %d blocks", sum, len(blocks))
		}
	})
}
