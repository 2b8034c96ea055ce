package outside

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func openPayments(t *testing.T) *System {
	t.Helper()
	s, err := Open(t.Context(), Payments, Config{File: filepath.Join(t.TempDir(), "payments.db"), Patience: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// What is asked by somebody who does not wait any more is not done.
func TestLate(t *testing.T) {
	s := openPayments(t)
	for _, c := range []struct {
		until string
		want  int
	}{
		{"", http.StatusCreated},
		{"soon", http.StatusCreated}, // no time: nobody has said one
		{strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10), http.StatusCreated},
		{strconv.FormatInt(time.Now().UnixMilli(), 10), http.StatusServiceUnavailable},
		{"0", http.StatusServiceUnavailable},
	} {
		key := "key " + c.until
		r := httptest.NewRequest(http.MethodPost, "/charges", strings.NewReader(`{"key":"`+key+`","order":"o","card":"c","cents":1}`))
		if c.until != "" {
			r.Header.Set(GiveUp, c.until)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var charges int
		if err := s.db.QueryRowContext(t.Context(), `select count(*) from charges where key = ?1`, key).Scan(&charges); err != nil {
			t.Fatal(err)
		}
		if w.Code != c.want || (charges == 1) != (c.want == http.StatusCreated) {
			t.Errorf("a charge with %s %q is answered %d and there are %d, want %d", GiveUp, c.until, w.Code, charges, c.want)
		}
	}
}

// Who asks whether something was done hears of what is being done.
func TestFindWaits(t *testing.T) {
	s := openPayments(t)
	s.writing.Lock() // as a charge does whose commit the disk takes long for
	w, answered := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(answered)
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/charges?key=k", nil))
	}()
	for range 20 { // it would be answered meanwhile
		if _, err := s.db.ExecContext(t.Context(), `insert into declines (ordered, card) values ('o', 'c')`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.db.ExecContext(t.Context(), sqlCharge, "k", "o", "c", 1, false); err != nil {
		t.Fatal(err)
	}
	s.writing.Unlock()
	if <-answered; w.Code != http.StatusOK {
		t.Errorf("a charge that was being made is answered %d, want 200", w.Code)
	}
}
