package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// asynqSettings are tried; each figure takes its best.
var asynqSettings = []struct {
	name    string
	workers int
	conns   int
}{
	{"10 workers, 70 connections", 10, 70},
	{"64 workers, 140 connections", 64, 140},
	{"256 workers, 400 connections", 256, 400},
}

// redisServer is a Redis server of our own, which writes each command to its log and waits for the
// disk before it answers.
type redisServer struct {
	cmd    *exec.Cmd
	socket string
}

func startRedis(ctx context.Context, dir string) (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w: it needs a Redis server (Debian: apt-get install redis-server)", err)
	}
	dir = filepath.Join(dir, "redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	s := &redisServer{socket: filepath.Join(dir, "socket")}
	s.cmd = exec.CommandContext(ctx, path, "--port", "0", "--unixsocket", s.socket, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxclients", "1000")
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(os.Interrupt) }
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	c := redis.NewClient(s.options(1))
	defer c.Close()
	for range 500 {
		if err = c.Ping(ctx).Err(); err == nil {
			return s, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("redis-server does not answer: %w", err), s.close())
}

func (s *redisServer) options(conns int) *redis.Options {
	return &redis.Options{Network: "unix", Addr: s.socket, PoolSize: conns}
}

func (s *redisServer) close() error { return endProcess(s.cmd) }

func asynqPeer(s *redisServer, against string) *peer {
	p := &peer{
		name: "asynq", against: against, batch: 1,
		queue: func(ctx context.Context, variant int) (queue, error) { return newAsynqQueue(ctx, s, variant) },
	}
	for _, v := range asynqSettings {
		p.variants = append(p.variants, v.name)
	}
	return p
}

type asynqQueue struct {
	conn    asynq.RedisClientOpt
	admin   *redis.Client
	client  *asynq.Client
	workers int
}

func newAsynqQueue(ctx context.Context, s *redisServer, variant int) (*asynqQueue, error) {
	v := asynqSettings[variant]
	q := &asynqQueue{
		conn:    asynq.RedisClientOpt{Network: "unix", Addr: s.socket, PoolSize: v.conns},
		admin:   redis.NewClient(s.options(1)),
		workers: v.workers,
	}
	q.client = asynq.NewClient(q.conn)
	if err := q.admin.FlushAll(ctx).Err(); err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

func (q *asynqQueue) send(ctx context.Context, first int64, n int) error {
	for i := range n {
		payload, err := json.Marshal(newBody(first + int64(i)))
		if err != nil {
			return err
		}
		if _, err := q.client.EnqueueContext(ctx, asynq.NewTask("bench:work", payload)); err != nil {
			return err
		}
	}
	return nil
}

// work starts a server that looks for tasks as often as may be.
func (q *asynqQueue) work(_ context.Context, handled func(int64)) (func() error, error) {
	srv := asynq.NewServer(q.conn, asynq.Config{Concurrency: q.workers, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel})
	err := srv.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		var b body
		if err := json.Unmarshal(t.Payload(), &b); err != nil {
			return err
		}
		handled(b.ID)
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return func() error {
		srv.Shutdown()
		return nil
	}, nil
}

func (q *asynqQueue) close() error { return errors.Join(q.client.Close(), q.admin.Close()) }
