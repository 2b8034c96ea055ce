package outside

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The warehouse's tables. Of a dish, what was ever there is free or reserved.
const sqlWarehouse = `
create table if not exists stock (
  dish     text primary key,
  ever     integer not null,                   -- all units that were ever there
  free     integer not null check (free >= 0),
  delivery integer not null,                   -- units of the next delivery; 0: none comes
  due_ms   integer not null                    -- when it comes, Unix time
) strict;
create index if not exists stock_due on stock (due_ms) where delivery > 0;
create table if not exists reservations (
  ordered  text primary key,
  state    text not null,                      -- reserved, released
  at       text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create table if not exists reserved (
  ordered  text not null references reservations (ordered),
  dish     text not null references stock (dish),
  quantity integer not null,
  primary key (ordered, dish)
) strict;
create table if not exists watcher (
  id  integer primary key check (id = 1),
  url text not null
) strict;
`

const (
	sqlFree        = `select free from stock where dish = ?1`
	sqlStock       = `insert into stock (dish, ever, free, delivery, due_ms) values (?1, ?2, ?2, ?3, ?4) on conflict (dish) do nothing`
	sqlTake        = `update stock set free = free - ?2 where dish = ?1 and free >= ?2`
	sqlReservation = `select state from reservations where ordered = ?1`
	sqlReserve     = `insert into reservations (ordered, state) values (?1, 'reserved')`
	sqlReserved    = `insert into reserved (ordered, dish, quantity) values (?1, ?2, ?3)`
	sqlGiveBack    = `update stock set free = free + r.quantity from reserved r where r.dish = stock.dish and r.ordered = ?1`
	sqlRelease     = `insert into reservations (ordered, state) values (?1, 'released') on conflict (ordered) do update set state = 'released'`
	sqlDue         = `select dish, delivery from stock where delivery > 0 and due_ms <= ?1 limit 100`
	sqlDeliver     = `update stock set ever = ever + ?2, free = free + ?2, delivery = ?2 * 2, due_ms = due_ms + ?3 where dish = ?1`
	sqlWatch       = `insert into watcher (id, url) values (1, ?1) on conflict (id) do update set url = excluded.url`
	sqlWatcher     = `select url from watcher`
)

// A scarce dish begins with few units and is delivered again and again, each time
// twice as much; of the others there is plenty.
const (
	scarceShare = 0.2
	scarceFew   = 10
	plenty      = 1_000_000
	itemsMax    = 1000
)

func (s *System) warehouse() (schema string) {
	s.reads("GET /stock/{dish}", s.free)
	s.writes("POST /reservations/{order}", s.reserve)
	s.writes("DELETE /reservations/{order}", release)
	s.writes("PUT /watcher", watch)
	s.chore = s.restock
	return sqlWarehouse
}

// free tells how much of a dish there is. It stocks what it is asked for.
func (s *System) free(ctx context.Context, q querier, r *request) (answer, error) {
	dish := r.PathValue("dish")
	var n int64
	err := q.QueryRowContext(ctx, sqlFree, dish).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		s.writing.Lock()
		defer s.writing.Unlock()
		if err := s.stock(ctx, q, dish); err != nil {
			return answer{}, err
		}
		err = q.QueryRowContext(ctx, sqlFree, dish).Scan(&n)
	}
	return answer{http.StatusOK, map[string]any{"dish": dish, "free": n}}, err
}

// stock begins to stock a dish.
func (s *System) stock(ctx context.Context, q querier, dish string) error {
	units, delivery := plenty, 0
	if share(s.config.Seed, dish) < scarceShare {
		units, delivery = scarceFew, scarceFew
	}
	_, err := q.ExecContext(ctx, sqlStock, dish, units, delivery, time.Now().Add(s.config.Restock).UnixMilli())
	return err
}

// reserve reserves all that an order needs, or nothing. What is released for an order is
// never reserved for it again: a request may arrive late.
func (s *System) reserve(ctx context.Context, q querier, r *request) (answer, error) {
	order := r.PathValue("order")
	var want struct {
		Items []struct {
			Dish     string `json:"dish"`
			Quantity int64  `json:"quantity"`
		} `json:"items"`
	}
	if err := r.into(&want); err != nil {
		return answer{}, err
	}
	if len(want.Items) == 0 || len(want.Items) > itemsMax {
		return answer{}, badRequest{fmt.Errorf("an order of %d dishes, want 1 to %d", len(want.Items), itemsMax)}
	}
	var state string
	err := q.QueryRowContext(ctx, sqlReservation, order).Scan(&state)
	if err == nil {
		return answer{http.StatusConflict, refusal{What: "already-" + state}}, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return answer{}, err
	}
	for _, item := range want.Items { // first all looks, then all changes: a refusal changes nothing
		if item.Quantity < 1 {
			return answer{}, badRequest{fmt.Errorf("quantity of %s is %d, want 1 at the least", item.Dish, item.Quantity)}
		}
		if err := s.stock(ctx, q, item.Dish); err != nil {
			return answer{}, err
		}
		var n int64
		if err := q.QueryRowContext(ctx, sqlFree, item.Dish).Scan(&n); err != nil {
			return answer{}, err
		}
		if n < item.Quantity {
			return answer{http.StatusConflict, refusal{"out-of-stock", fmt.Sprintf("need %d of %s, have %d", item.Quantity, item.Dish, n)}}, nil
		}
	}
	if _, err := q.ExecContext(ctx, sqlReserve, order); err != nil {
		return answer{}, err
	}
	for _, item := range want.Items {
		res, err := q.ExecContext(ctx, sqlTake, item.Dish, item.Quantity)
		if err != nil {
			return answer{}, err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return answer{}, errors.Join(badRequest{fmt.Errorf("%s is in the order twice", item.Dish)}, err)
		}
		if _, err := q.ExecContext(ctx, sqlReserved, order, item.Dish, item.Quantity); err != nil {
			return answer{}, err
		}
	}
	return answer{http.StatusCreated, nil}, nil
}

// release gives back what is reserved for an order, if anything is.
func release(ctx context.Context, q querier, r *request) (answer, error) {
	order := r.PathValue("order")
	var state string
	err := q.QueryRowContext(ctx, sqlReservation, order).Scan(&state)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return answer{}, err
	}
	if state == "reserved" {
		if _, err := q.ExecContext(ctx, sqlGiveBack, order); err != nil {
			return answer{}, err
		}
	}
	_, err = q.ExecContext(ctx, sqlRelease, order)
	return answer{http.StatusNoContent, nil}, err
}

// watch notes whom to tell of deliveries.
func watch(ctx context.Context, q querier, r *request) (answer, error) {
	var w struct {
		URL string `json:"url"`
	}
	if err := r.into(&w); err != nil {
		return answer{}, err
	}
	_, err := q.ExecContext(ctx, sqlWatch, w.URL)
	return answer{http.StatusNoContent, nil}, err
}

const (
	restockLook = 100 * time.Millisecond
	tellMax     = time.Second
)

// restock takes in what is delivered, and tells the watcher once: who does not hear
// it has to ask.
func (s *System) restock(ctx context.Context) error {
	tick := time.NewTicker(restockLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		dishes, err := s.deliveries(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("restock: %w", err)
		}
		for _, dish := range dishes {
			if err := s.tell(ctx, dish); err != nil {
				s.config.Log.WarnContext(ctx, "delivery not told", "dish", dish, "error", err)
			}
		}
	}
}

// deliveries takes in what is due.
func (s *System) deliveries(ctx context.Context) ([]string, error) {
	type delivery struct {
		dish  string
		units int64
	}
	rows, err := s.db.QueryContext(ctx, sqlDue, time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var due []delivery
	for rows.Next() {
		var d delivery
		if err := rows.Scan(&d.dish, &d.units); err != nil {
			return nil, err
		}
		due = append(due, d)
	}
	if err := rows.Err(); err != nil || len(due) == 0 {
		return nil, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	var dishes []string
	_, err = s.transact(ctx, func(ctx context.Context, q querier) (answer, error) {
		for _, d := range due {
			if _, err := q.ExecContext(ctx, sqlDeliver, d.dish, min(d.units, plenty), s.config.Restock.Milliseconds()); err != nil {
				return answer{}, err
			}
			dishes = append(dishes, d.dish)
		}
		return answer{}, nil
	})
	return dishes, err
}

// tell tells the watcher, if there is one.
func (s *System) tell(ctx context.Context, dish string) error {
	var url string
	err := s.db.QueryRowContext(ctx, sqlWatcher).Scan(&url)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"dish": dish})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tellMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("the watcher answers %s", res.Status)
	}
	return nil
}
