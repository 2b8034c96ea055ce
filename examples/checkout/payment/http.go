package payment

import (
	"encoding/json"
	"errors"
	"net/http"
)

const cardBytesMax = 1 << 10

// Mount adds payment's own entry point, where shoppers give their cards: PUT /cards/{cart}.
// No refusal repeats anything of what came.
func (p *Payment) Mount(mux *http.ServeMux) {
	mux.HandleFunc("PUT /cards/{cart}", p.card)
}

func (p *Payment) card(w http.ResponseWriter, r *http.Request) {
	var given struct {
		Number string `json:"number"`
	}
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, cardBytesMax)).Decode(&given) != nil {
		http.Error(w, `want {"number": "…"}`, http.StatusBadRequest)
		return
	}
	c, err := NewCard(given.Number)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch err := p.Give(r.Context(), r.PathValue("cart"), c); {
	case errors.Is(err, ErrBilled):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, "not now", http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
