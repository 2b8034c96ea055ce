package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// Customer is what the boundary customers shows of one to others. Its owner declares the contract, whoever reads
// customers imports it.
type Customer struct {
	ID, Name string
	Discount int // in percent
}

func (c Customer) Key() string { return c.ID }

var Customers = weir.NewEntity[Customer]("customers.customer", weir.KeyedBy(Customer.Key))

// boundary opens a boundary that lives in a store of its own, and knows one other.
func boundary(dir, owns, other string, wire transport.Transport) *weir.Engine {
	eng, err := weir.Open(context.Background(), sqlite.File(filepath.Join(dir, owns+".db")), weir.Config{
		Owns: []string{owns}, Transport: wire, Routes: map[string]weir.Route{other: {}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return eng
}

// Ordering keeps a copy of the customers, whose owner lives in another store, and prices from it without asking
// anybody.
func ExampleFollow() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "weir-example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	wire, err := local.New(local.Config{}) // between processes: package jetstream
	if err != nil {
		panic(err)
	}
	owner, ordering := boundary(dir, "customers", "ordering", wire.Open()), boundary(dir, "ordering", "customers", wire.Open())
	defer owner.Close()
	defer ordering.Close()

	customers := weir.Own(owner, Customers)
	replica := weir.Follow(ordering, Customers)
	defer open(owner)()
	defer open(ordering)()

	// The owner changes a customer: in a commit of its own here, with its acknowledgement in a handler.
	if err := customers.Put(ctx, owner, "42", Customer{"42", "Ann", 10}); err != nil {
		panic(err)
	}

	c, err := replica.Refresh(ctx, "42") // asks the owner: only the example needs it, lest it read too soon
	fmt.Println(c.Value.Name, c.Value.Discount, err)
	c, err = replica.Get("42") // from memory
	fmt.Println(c.Value.Name, c.Version > 0, err)
	_, err = replica.Refresh(ctx, "43")
	fmt.Println(errors.Is(err, weir.ErrNotFound), err)

	// Output:
	// Ann 10 <nil>
	// Ann true <nil>
	// true weir: there is no customers.customer "43"
}
