package customers

import (
	"encoding/json"
	"net/http"
)

const (
	bodyBytesMax = 4 << 10
	idBytesMax   = 100
)

// Mount adds the entry point of the customers: PUT /customers/{id}.
func (c *Customers) Mount(mux *http.ServeMux) {
	mux.HandleFunc("PUT /customers/{id}", c.put)
}

func (c *Customers) put(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	}
	id := r.PathValue("id")
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytesMax)).Decode(&in); err != nil || in.Name == "" || len(id) > idBytesMax {
		http.Error(w, `want {"name": "…", "address": "…"}`, http.StatusBadRequest)
		return
	}
	if err := c.Put(r.Context(), id, in.Name, in.Address); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
