package postgres

import "syscall"

// memoryLeast is what the tests' server may need: its log, mostly.
const memoryLeast = 6 << 30

// inMemory is a folder in memory with room for the tests' server; "" if there is none.
// There the server's settings are those of a durable one, and its syncs cost nothing:
// hundreds of laws do not stand in line for a disk.
func inMemory() string {
	const folder = "/dev/shm"
	var room syscall.Statfs_t
	if err := syscall.Statfs(folder, &room); err != nil || room.Bavail*uint64(room.Bsize) < memoryLeast {
		return ""
	}
	return folder
}
