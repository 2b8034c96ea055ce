package payment_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/checkout/payment"
	"github.com/weir-go/weir/store/sqlite"
)

const number = "4242424242424242"

// bill is what a careless program might send.
type bill struct {
	Cart string
	Card payment.Card
}

type hiding struct {
	inner struct{ card payment.Card }
}

// A card is shown by nothing that prints or logs, wherever in a value it is.
func TestCardIsNotShown(t *testing.T) {
	c, err := payment.NewCard(number)
	if err != nil {
		t.Fatal(err)
	}
	deep := hiding{}
	deep.inner.card = c
	for _, v := range []any{c, &c, bill{"cart-1", c}, &bill{"cart-1", c}, []any{c}, map[string]any{"card": c}, deep, &deep} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, number) || strings.Contains(text, fmt.Sprintf("%x", number)) {
				t.Errorf("Sprintf(%s) = %s", verb, text)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("charging", "card", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("charging", "card", v)
		if strings.Contains(log.String(), number) {
			t.Errorf("slog shows %s", &log)
		}
	}
}

// What has a card in it is encoded by nothing, so no message is sent with one.
func TestCardIsNotEncoded(t *testing.T) {
	c, err := payment.NewCard(number)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(bill{"cart-1", c}); err == nil {
		t.Errorf("json.Marshal = %s, want an error", text)
	}
	if err := gob.NewEncoder(&bytes.Buffer{}).Encode(bill{"cart-1", c}); err == nil {
		t.Error("gob encodes a card, want an error")
	}
	eng, err := weir.Open(t.Context(), sqlite.File(filepath.Join(t.TempDir(), "payment.db")), weir.Config{Owns: []string{"payment"}})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	err = weir.Send(t.Context(), eng, weir.NewCommand[bill]("payment.charge"), bill{"cart-1", c})
	if err == nil || !strings.Contains(err.Error(), "a card cannot be encoded") {
		t.Errorf("Send of a card = %v, want that it cannot be encoded", err)
	}
}

func TestNewCard(t *testing.T) {
	for _, wrong := range []string{"", "4242", "4242424242424241", "4242 4242 4242 4242", "42424242424242424242", "424242424242424x"} {
		if _, err := payment.NewCard(wrong); err == nil || wrong != "" && strings.Contains(err.Error(), wrong) {
			t.Errorf("NewCard(%q) = %v, want an error that does not repeat it", wrong, err)
		}
	}
}
