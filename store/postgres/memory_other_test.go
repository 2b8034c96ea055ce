//go:build !linux

package postgres

// inMemory is a folder in memory with room for the tests' server; "" if there is none.
func inMemory() string { return "" }
