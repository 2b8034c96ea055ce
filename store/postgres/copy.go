package postgres

import (
	"bytes"
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

// Many messages go by COPY, in PostgreSQL's binary format: for the server it is half the
// work of an insert, but it takes a round trip of its own.

// copyMin is from how many messages on it is worth it.
const copyMin = 100

const (
	sqlCopy     = `copy weir.messages (topic, seq, sent_us, version, lane, key, due_us, cause, correlation, origin, headers, body) from stdin (format binary)`
	copyColumns = 12
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00" // no flags, no extension
)

// copier is a wire that can carry messages by COPY.
type copier interface {
	pgConn() *pgconn.PgConn
}

// copyIn sends what is queued, and then the messages.
func (a *appender) copyIn(c copier, messages []*store.Message) error {
	if err := a.flush(); err != nil {
		return err
	}
	size := len(copyHeader) + 2
	for _, m := range messages {
		if m.Origin != nil {
			size += len(m.Origin.ID) + len(m.Origin.From) + 24
		}
		size += 2 + copyColumns*4 + 40 + len(m.Key) + len(m.Cause) + len(m.Correlation) + len(m.Headers) + len(m.Body)
	}
	b := append(make([]byte, 0, size), copyHeader...)
	for _, m := range messages {
		b = appendRow(b, m, a.now)
	}
	b = binary.BigEndian.AppendUint16(b, 0xffff) // the end
	_, err := c.pgConn().CopyFrom(a.ctx, bytes.NewReader(b), a.s.text(sqlCopy))
	return outage(a.ctx, err)
}

func appendRow(b []byte, m *store.Message, now int64) []byte {
	b = binary.BigEndian.AppendUint16(b, copyColumns)
	b = appendInt4(b, uint32(topicOf(int64(m.Pos))))
	b = appendInt8(b, seqOf(int64(m.Pos)))
	b = appendInt8(b, now)
	b = appendInt4(b, uint32(m.Version))
	b = binary.BigEndian.AppendUint32(b, 2)
	b = binary.BigEndian.AppendUint16(b, uint16(laneOf(m.Key)))
	b = appendText(b, m.Key)
	if m.Due.IsZero() {
		b = appendNull(b)
	} else {
		b = appendInt8(b, us(m.Due))
	}
	b = appendText(b, m.Cause)
	b = appendText(b, m.Correlation)
	b = appendText(b, deref(packed(m.Origin)))
	if m.Headers == nil {
		b = appendNull(b)
	} else {
		b = appendBytes(b, m.Headers)
	}
	return appendBytes(b, m.Body)
}

func appendInt4(b []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), n)
}

func appendInt8(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(n))
}

func appendNull(b []byte) []byte { return binary.BigEndian.AppendUint32(b, 0xffffffff) }

func appendBytes(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

// appendText adds a text; an empty one is NULL.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return appendNull(b)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
