package wire

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzDecodeBody checks that what has been read from a body, written by encoding/json, is read as the same again.
func FuzzDecodeBody(f *testing.F) {
	type leaf struct {
		A *string            `json:"a"`
		N *int64             `json:"n"`
		L []string           `json:"l"`
		M map[string]float64 `json:"m"`
		B []byte             `json:"b"`
		T *bool              `json:"t"`
	}
	type tree struct {
		Leaf  *leaf           `json:"leaf"`
		Trees []*leaf         `json:"trees"`
		Raw   json.RawMessage `json:"raw"`
	}
	f.Add([]byte(`{"leaf":{"a":"\u00e9\"\\","n":-12,"l":["x",""],"m":{"k":1.5e3},"b":"AQI=","t":true},"trees":[{},{"a":"]"}],"raw":[1,{"x":"}"}]}`))
	f.Add([]byte(` { "unknown" : [ {"a":"\\"} , 1 , true ] , "leaf" : null } `))
	f.Add([]byte(`{"leaf":{"n":1.0},"trees":[null]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got tree
		if e := decodeBody(data, objectOf(reflect.TypeFor[tree]()), reflect.ValueOf(&got).Elem()); e != nil {
			return
		}
		first, err := json.Marshal(got)
		if err != nil {
			t.Fatalf("%q gives %+v: %v", data, got, err)
		}
		var again tree
		if e := decodeBody(first, objectOf(reflect.TypeFor[tree]()), reflect.ValueOf(&again).Elem()); e != nil {
			t.Fatalf("%q gives %s: %v", data, first, e)
		}
		second, err := json.Marshal(again)
		if err != nil || string(second) != string(first) {
			t.Errorf("%q gives %s, that gives %s (%v)", data, first, second, err)
		}
	})
}

// FuzzRaw checks the cursor's idea of where a value ends against encoding/json's.
func FuzzRaw(f *testing.F) {
	f.Add([]byte(`[1, "a]\"" , {"b":{}}, -1e5, null,true ]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var want []json.RawMessage
		if json.Unmarshal(data, &want) != nil || want == nil {
			return
		}
		c := cursor{data: data}
		i := 0
		e := c.entries(func() *Error {
			if got := c.raw(); i >= len(want) || string(got) != string(want[i]) {
				t.Errorf("%q: entry %d is %q", data, i, got)
			}
			i++
			return nil
		})
		if c.space(); e != nil || i != len(want) || c.pos != len(data) {
			t.Errorf("%q: %d entries of %d, stopped at %d: %v", data, i, len(want), c.pos, e)
		}
	})
}
