package main

import "text/tabwriter"

// storeCmd is weir store.
type storeCmd struct {
	Renew storeRenewCmd `cmd:"" help:"Begin a new life of a store that was restored from an older copy. Stop what works it first."`
}

// storeRenewCmd is weir store renew.
type storeRenewCmd struct {
	becauseFlags
}

// storeRenewView is a renewed store in JSON.
type storeRenewView struct {
	Incarnation string `json:"incarnation"` // of the new life
	By          string `json:"by"`
	Why         string `json:"why"`
}

// Run renews a store.
func (c *storeRenewCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.RenewStore(a.ctx, c.because()); err != nil {
		return err
	}
	return a.print(storeRenewView{string(e.StoreInfo().Incarnation), c.By, c.Why}, func(w *tabwriter.Writer) {
		writeWrapped(w, "", "A new life of the store has begun: what it sends from now on is not taken for what it sent after its copy "+
			"was made, and has forgotten. What had arrived nowhere is sent again, once. Start what works the store.")
	})
}
