package pgtest

import "syscall"

// memoryLeast is what a test's server may need: its log, mostly.
const memoryLeast = 6 << 30

// inMemory is a folder in memory with room for a server; "" if there is none.
func inMemory() string {
	const folder = "/dev/shm"
	var room syscall.Statfs_t
	if err := syscall.Statfs(folder, &room); err != nil || room.Bavail*uint64(room.Bsize) < memoryLeast {
		return ""
	}
	return folder
}
