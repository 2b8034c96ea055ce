package payment

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/weir-go/weir/store/sqlite"
)

// Vault keeps the cards, in a file of payment's own beside its store. Nothing else of payment
// has a number: its store, its messages and its runs have the token that stands for it.
//
// It is apart from the store for that reason: backups, replicas, roles and people who look at the
// store never meet a card. A vault of your own would also encrypt what it keeps.
type Vault struct{ db *sql.DB }

const sqlVault = `
create table if not exists cards (
  cart   text primary key,
  token  text not null unique,
  number text not null
) strict;
`

const (
	sqlKeepCard = `insert into cards (cart, token, number) values ($1, $2, $3) on conflict (cart) do update set number = excluded.number returning token`
	sqlHasCard  = `select count(*) from cards where cart = $1 and number = $2`
	sqlTakeCard = `select number from cards where token = $1`
)

// OpenVault opens the file, and makes it if there is none.
func OpenVault(ctx context.Context, file string) (*Vault, error) {
	db, err := sqlite.OpenDB(file)
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, sqlVault); err != nil {
		return nil, errors.Join(fmt.Errorf("make the vault's table: %w", err), db.Close())
	}
	return &Vault{db}, nil
}

// Close closes the file.
func (v *Vault) Close() error { return v.db.Close() }

// Keep keeps the card of a cart in place of the one before, and gives the token that stands for
// it: always the same for a cart.
func (v *Vault) Keep(ctx context.Context, cart string, c Card) (token string, err error) {
	err = v.db.QueryRowContext(ctx, sqlKeepCard, cart, "tok-"+rand.Text(), c.reveal()).Scan(&token)
	return token, err
}

// Has says whether a cart's card is this one.
func (v *Vault) Has(ctx context.Context, cart string, c Card) (bool, error) {
	var n int
	err := v.db.QueryRowContext(ctx, sqlHasCard, cart, c.reveal()).Scan(&n)
	return n > 0, err
}

// Card is the card that a token stands for.
func (v *Vault) Card(ctx context.Context, token string) (Card, error) {
	var number string
	err := v.db.QueryRowContext(ctx, sqlTakeCard, token).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		return Card{}, errUnknown
	}
	return Card{reveal: func() string { return number }}, err
}
