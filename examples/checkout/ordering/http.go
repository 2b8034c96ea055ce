package ordering

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/checkout/contract"
)

const (
	bodyBytesMax = 64 << 10
	cartBytesMax = 100
)

// Mount adds the entry points of ordering: PUT /orders/{cart}, and GET /greetings/{customer},
// which tells what ordering knows of a customer.
func (o *Ordering) Mount(mux *http.ServeMux) {
	mux.HandleFunc("PUT /orders/{cart}", o.put)
	mux.HandleFunc("GET /greetings/{customer}", o.greeting)
}

func (o *Ordering) put(w http.ResponseWriter, r *http.Request) {
	var order Order
	cart := r.PathValue("cart")
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytesMax)).Decode(&order); err != nil || len(cart) > cartBytesMax {
		http.Error(w, `want {"customer": "…", "lines": [{"article": "…", "quantity": 1}]}`, http.StatusBadRequest)
		return
	}
	c, err := o.Place(r.Context(), cart, order)
	if err != nil {
		o.refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, c)
}

// refuse says why not, and to whom it is worthwhile when to come again.
func (o *Ordering) refuse(w http.ResponseWriter, err error) {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		http.Error(w, refusal.Error(), http.StatusUnprocessableEntity)
		return
	}
	after := time.Second
	if full, ok := errors.AsType[*weir.FullError](err); ok {
		after = full.RetryAfter
	}
	o.log.Warn("order not placed", "error", err)
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(after.Seconds()))))
	http.Error(w, "not now", http.StatusServiceUnavailable)
}

// Known is what ordering knows of a customer.
type Known struct {
	contract.Customer
	Version int64     `json:"version"`
	AsOf    time.Time `json:"as_of"`
}

func (o *Ordering) greeting(w http.ResponseWriter, r *http.Request) {
	who, err := o.customers.Get(r.PathValue("customer"))
	switch {
	case errors.Is(err, weir.ErrNotFound):
		http.Error(w, "never heard of", http.StatusNotFound)
	case err != nil:
		http.Error(w, "not now", http.StatusServiceUnavailable)
	default:
		answer(w, http.StatusOK, Known{Customer: who.Value, Version: who.Version, AsOf: who.AsOf})
	}
}

// answer writes JSON. Nobody can be told that it did not arrive.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
