package sqlite

type bridge struct{}

func (b *bridge) close() error { return nil }
