package postgres

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

// A role without rights is told who gives them, whatever it was about to do, and once.
func TestMissingRightsSayWhoGivesThem(t *testing.T) {
	t.Parallel()
	missing := &pgconn.PgError{Severity: "ERROR", Message: "permission denied for sequence seq", Code: insufficientPrivilege}
	got := advise(outage(t.Context(), outage(t.Context(), missing)))
	if n := strings.Count(got.Error(), "weir migrate up"); n != 1 || !errors.Is(got, missing) || errors.Is(got, store.ErrUnavailable) {
		t.Errorf("outage(%v) = %v, want who gives rights, once, beside the server's error", missing, got)
	}
	other := &pgconn.PgError{Severity: "ERROR", Message: "division by zero", Code: "22012"}
	if got := advise(outage(t.Context(), other)); got != error(other) {
		t.Errorf("outage(%v) = %v, want it as it is", other, got)
	}
}
