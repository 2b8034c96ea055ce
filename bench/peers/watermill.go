package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
)

// watermillSettings are tried; each figure takes its best. A schema is either the Pub/Sub's, whose
// subscribers keep an offset, or the queue's, which marks rows.
var watermillSettings = []struct {
	name  string
	queue bool
	batch int
}{
	{"default schema, 100 a query", false, 100},
	{"default schema, 1,000 a query", false, 1_000},
	{"queue schema, 1,000 a query", true, 1_000},
}

// watermillTopic is a table's name.
const watermillTopic = "bench"

func watermillPeer(s *server, against string) *peer {
	p := &peer{
		name: "watermill", against: against, batch: batchSize,
		queue: func(ctx context.Context, variant int) (queue, error) { return newWatermillQueue(ctx, s, variant) },
	}
	for _, v := range watermillSettings {
		p.variants = append(p.variants, v.name)
	}
	return p
}

type watermillQueue struct {
	room       *room
	pool       *pgxpool.Pool
	publisher  *watermillsql.Publisher
	subscriber *watermillsql.Subscriber
}

func newWatermillQueue(ctx context.Context, s *server, variant int) (*watermillQueue, error) {
	r, err := s.room(ctx, true)
	if err != nil {
		return nil, err
	}
	q := &watermillQueue{room: r}
	if q.pool, err = r.pool(ctx, senders+10); err != nil {
		return nil, errors.Join(err, r.drop())
	}
	v := watermillSettings[variant]
	var schema watermillsql.SchemaAdapter = watermillsql.DefaultPostgreSQLSchema{SubscribeBatchSize: v.batch}
	var offsets watermillsql.OffsetsAdapter = watermillsql.DefaultPostgreSQLOffsetsAdapter{}
	if v.queue {
		schema = watermillsql.PostgreSQLQueueSchema{SubscribeBatchSize: v.batch}
		offsets = watermillsql.PostgreSQLQueueOffsetsAdapter{DeleteOnAck: true}
	}
	db := watermillsql.BeginnerFromPgx(q.pool)
	q.publisher, err = watermillsql.NewPublisher(db, watermillsql.PublisherConfig{SchemaAdapter: schema}, watermill.NopLogger{})
	if err == nil {
		q.subscriber, err = watermillsql.NewSubscriber(db, watermillsql.SubscriberConfig{
			SchemaAdapter: schema, OffsetsAdapter: offsets, PollInterval: time.Millisecond, InitializeSchema: true,
		}, watermill.NopLogger{})
	}
	if err == nil {
		err = q.subscriber.SubscribeInitialize(watermillTopic)
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

func (q *watermillQueue) settled(ctx context.Context) error { return q.room.analyze(ctx) }

func (q *watermillQueue) send(_ context.Context, first int64, n int) error {
	messages := make([]*message.Message, n)
	for i := range messages {
		payload, err := json.Marshal(newBody(first + int64(i)))
		if err != nil {
			return err
		}
		messages[i] = message.NewMessage(watermill.NewUUID(), payload)
	}
	return q.publisher.Publish(watermillTopic, messages...)
}

// work subscribes. stop ends the subscription, with what it has in its transaction.
func (q *watermillQueue) work(ctx context.Context, handled func(int64)) (func() error, error) {
	messages, err := q.subscriber.Subscribe(ctx, watermillTopic)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		for m := range messages {
			var b body
			if err := json.Unmarshal(m.Payload, &b); err != nil {
				failed = fmt.Errorf("body: %w", err)
			}
			m.Ack()
			handled(b.ID)
		}
	})
	return func() error {
		err := q.subscriber.Close()
		wg.Wait()
		return errors.Join(err, failed)
	}, nil
}

func (q *watermillQueue) close() error {
	q.pool.Close()
	return q.room.drop()
}
