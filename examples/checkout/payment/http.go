package payment

import (
	"encoding/json"
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
	if err := p.Give(r.Context(), r.PathValue("cart"), c); err != nil {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
