package weirtest

// SettleError is what Settle fails with.
func (e *Engine) SettleError() error { return e.settle() }
