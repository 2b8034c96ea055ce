package postgres

import (
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weir-go/weir/store"
)

// columns are messages to be inserted, as arrays; those that their statement has no use for are empty.
type columns struct {
	plain bool // they have nothing but bodies
	alike bool // they are of one topic and version

	seqs   []int64
	bodies [][]byte

	topics, versions []int32 // unless all are plain and alike

	lanes               []int16 // and so on: unless all are plain
	keys, causes, roots []string
	dues                []int64
	origins             []*string
	headers             [][]byte
}

func newColumns(messages []*store.Message) *columns {
	n, first := len(messages), messages[0]
	c := &columns{plain: true, alike: true, seqs: make([]int64, n), bodies: make([][]byte, n)}
	for i, m := range messages {
		c.seqs[i], c.bodies[i] = seqOf(int64(m.Pos)), m.Body
		c.plain = c.plain && m.Origin == nil && m.Key == "" && m.Due.IsZero() && m.Cause == "" && m.Correlation == "" && m.Headers == nil
		c.alike = c.alike && m.Version == first.Version && topicOf(int64(m.Pos)) == topicOf(int64(first.Pos))
	}
	if c.plain && c.alike {
		return c
	}
	c.topics, c.versions = make([]int32, n), make([]int32, n)
	for i, m := range messages {
		c.topics[i], c.versions[i] = int32(topicOf(int64(m.Pos))), int32(m.Version)
	}
	if !c.plain {
		c.addRest(messages)
	}
	return c
}

func (c *columns) addRest(messages []*store.Message) {
	n := len(messages)
	c.lanes, c.dues, c.origins, c.headers = make([]int16, n), make([]int64, n), make([]*string, n), make([][]byte, n)
	c.keys, c.causes, c.roots = make([]string, n), make([]string, n), make([]string, n)
	for i, m := range messages {
		c.lanes[i], c.dues[i], c.origins[i], c.headers[i] = int16(laneOf(m.Key)), us(m.Due), packed(m.Origin), m.Headers
		c.keys[i], c.causes[i], c.roots[i] = m.Key, m.Cause, m.Correlation
	}
}

// arrayCodec is the driver's for arrays, but that it makes room for the whole of one at once, and asks of
// no element by itself how it is encoded: for messages that was a third of all that a sender allocated.
type arrayCodec struct{ *pgtype.ArrayCodec }

// codeArrays has a connection encode arrays by arrayCodec.
func codeArrays(c *pgx.Conn) {
	for _, oid := range [...]uint32{pgtype.ByteaArrayOID, pgtype.Int8ArrayOID} {
		t, _ := c.TypeMap().TypeForOID(oid)
		if arrays, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			c.TypeMap().RegisterType(&pgtype.Type{Name: t.Name, OID: oid, Codec: arrayCodec{arrays}})
		}
	}
}

// PlanEncode implements pgtype.Codec.
func (c arrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if format == pgtype.BinaryFormatCode {
		switch value.(type) {
		case [][]byte:
			return encodeBytes{}
		case []int64:
			return encodeInts{}
		}
	}
	return c.ArrayCodec.PlanEncode(m, oid, format, value)
}

type (
	encodeBytes struct{}
	encodeInts  struct{}
)

// arrayHead is the most bytes that an array has before its elements.
const arrayHead = 20

func appendArrayHead(b []byte, element, nulls uint32, n int) []byte {
	dimensions := uint32(min(n, 1))
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, dimensions), nulls)
	b = binary.BigEndian.AppendUint32(b, element)
	if n == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return binary.BigEndian.AppendUint32(b, 1) // the first one's number
}

// Encode implements pgtype.EncodePlan.
func (encodeBytes) Encode(value any, b []byte) ([]byte, error) {
	list := value.([][]byte)
	size, nulls := arrayHead, uint32(0)
	for _, v := range list {
		size += 4 + len(v)
		if v == nil {
			nulls = 1
		}
	}
	b = appendArrayHead(slices.Grow(b, size), pgtype.ByteaOID, nulls, len(list))
	for _, v := range list {
		if v == nil {
			b = appendNull(b)
		} else {
			b = appendBytes(b, v)
		}
	}
	return b, nil
}

// Encode implements pgtype.EncodePlan.
func (encodeInts) Encode(value any, b []byte) ([]byte, error) {
	list := value.([]int64)
	b = appendArrayHead(slices.Grow(b, arrayHead+12*len(list)), pgtype.Int8OID, 0, len(list))
	for _, v := range list {
		b = appendInt8(b, v)
	}
	return b, nil
}
