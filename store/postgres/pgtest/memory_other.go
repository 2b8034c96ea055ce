//go:build !linux

package pgtest

// inMemory is a folder in memory with room for a server; "" if there is none.
func inMemory() string { return "" }
