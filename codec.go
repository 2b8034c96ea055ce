package weir

import (
	"encoding/json"
	"fmt"
	"reflect"

	jsonv1 "github.com/go-json-experiment/json/v1"
)

// Codec turns bodies into bytes and back. Bytes are opaque to weir, so a codec may compress
// or encrypt; every process that sends or handles a message needs the same one. It must be safe for concurrent use.
type Codec interface {
	// Marshal encodes v, a contract's type.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes into v, a pointer. data must not be kept or changed.
	Unmarshal(data []byte, v any) error
}

// JSON is the default codec: encoding/json, with its rules and its errors.
//
// Decoding is most of the work of a small message, so it is first tried with the
// implementation of the same rules that Go carries as GOEXPERIMENT=jsonv2, in a
// third of the time. What that refuses, encoding/json decides.
type JSON struct{}

// Marshal implements Codec.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal implements Codec.
func (JSON) Unmarshal(data []byte, v any) error {
	if jsonv1.Unmarshal(data, v) == nil {
		return nil
	}
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
		p.Elem().SetZero() // of what the first try has left
	}
	return json.Unmarshal(data, v)
}

// undecodable is a codec's error. Its words may hold what is in the body (a date that is none, a number too large), so
// they are on a line of their own: of reasons logs tell the first line, the store keeps all.
func undecodable(err error) error {
	return fmt.Errorf("its bytes do not fit the type of this program:\n%w", err)
}

// encodeHeaders makes the stored form of headers: a JSON object of strings.
func encodeHeaders(h map[string]string) ([]byte, error) {
	if len(h) == 0 {
		return nil, nil
	}
	return json.Marshal(h)
}

func decodeHeaders(data []byte) (map[string]string, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var h map[string]string
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, fmt.Errorf("decode headers: %w", err)
	}
	return h, nil
}
