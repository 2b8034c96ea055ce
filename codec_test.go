package weir_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/weir-go/weir"
)

// odd is what a codec may meet in a user's type.
type odd struct {
	Number  json.Number
	Raw     json.RawMessage
	Any     any
	Map     map[string]int
	Time    time.Time
	Bytes   []byte
	Pointer *int
	Array   [2]int
	Renamed string `json:"other,omitempty"`
	Nested  struct{ A, B string }
}

// The codec takes, makes and refuses what encoding/json does.
func TestJSONIsEncodingJSON(t *testing.T) {
	for _, text := range []string{
		`{}`, `null`, `{"Number": 12345678901234567890, "Raw": {"a": [1, 2]}, "Any": {"x": 1.5, "y": [null, true]}}`,
		`{"number": 1, "OTHER": "case does not matter", "unknown": {"deep": []}}`,
		`{"Map": {"a": 1, "a": 2}, "Array": [1, 2, 3], "Pointer": 7, "Bytes": "aGk="}`,
		`{"Time": "2026-01-02T03:04:05Z", "Nested": {"A": "\u00e9\ud800", "b": "x"}}`,
		`{"Nested": {"A": "first"}, "Array": ["no number"]}`, `{"Bytes": "not base64!"}`, `{"Time": "yesterday"}`,
		"{\"Nested\": {\"A\": \"\xff\"}}", `{"A": 1} trailing`, `{"A": `, ``, `[]`, `"text"`, `{"Map": {"a": 1.5}}`,
	} {
		var got, want odd
		gotErr, wantErr := weir.JSON{}.Unmarshal([]byte(text), &got), json.Unmarshal([]byte(text), &want)
		if (gotErr == nil) != (wantErr == nil) || wantErr != nil && gotErr.Error() != wantErr.Error() {
			t.Errorf("Unmarshal(%s) = %v, want %v", text, gotErr, wantErr)
		}
		if wantErr == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("Unmarshal(%s) gives %+v, want %+v", text, got, want)
		}
	}
	var fresh odd
	if err := (weir.JSON{}).Unmarshal([]byte(`{}`), fresh); err == nil {
		t.Error("Unmarshal into no pointer = nil, want an error")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"Any": [1, "a", {"b": null}], "Map": {"x": 2}}`))
	f.Add([]byte("{\"Nested\": {\"A\": \"\\u00ff\xff\"}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want odd
		gotErr, wantErr := weir.JSON{}.Unmarshal(data, &got), json.Unmarshal(data, &want)
		if (gotErr == nil) != (wantErr == nil) || wantErr == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("Unmarshal(%q) = %v %+v, want %v %+v", data, gotErr, got, wantErr, want)
		}
	})
}
