package restaurant

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/weirtest"
)

// TestCrashesEverywhere: wherever the process crashes, and whatever comes twice,
// each line is cooked and served as often as on a quiet day.
func TestCrashesEverywhere(t *testing.T) {
	weirtest.CrashEverywhere(t, smallDay(func(k *Kitchen, eng *weir.Engine) { k.register(eng) }))
}

// A kitchen that writes what it has cooked outside of the acknowledgement's
// transaction, as one would without thinking of it.
func TestCrashesFindAHastyKitchen(t *testing.T) {
	report := weirtest.CrashReport(t, func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		db := tables(t, w.File)
		return smallDay(func(k *Kitchen, eng *weir.Engine) {
			weir.Handle(eng, PrepareFood, func(ctx context.Context, m *weir.Message[Ticket]) error {
				dish, err := k.menu.Dish(m.Body.Item)
				if err != nil {
					return weir.Permanent(err)
				}
				if _, err := db.ExecContext(ctx, sqlCooked, m.Body.Line, dish, m.ID, m.Attempt); err != nil {
					return err
				}
				return weir.Publish(ctx, m, FoodReady, Plate{Order: m.Body.Order, Line: m.Body.Line, Dish: dish})
			}, weir.Queue{OnDead: weir.Skip})
		})(t, w)
	})
	found := 0
	for _, f := range report.Faults {
		if f.Effect == "cooked" && f.Times == 2 {
			found++
		}
	}
	if found == 0 {
		t.Errorf("a line that is cooked twice is not found: %s", report)
	}
	t.Log(report)
}

// smallDay is a day of few orders.
func smallDay(register func(*Kitchen, *weir.Engine)) func(*testing.T, *weirtest.World) weirtest.Scenario {
	return func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		book, err := ReadBook(bytes.NewReader(GenerateBook(3, 3)))
		if err != nil {
			t.Fatal(err)
		}
		menu, err := ReadMenu(bytes.NewReader(GenerateMenu()))
		if err != nil {
			t.Fatal(err)
		}
		db := tables(t, w.File)
		return weirtest.Scenario{
			Config: weir.Config{Owns: []string{"wait-staff", "kitchen"}},
			Register: func(eng *weir.Engine) {
				(&WaitStaff{eng: eng, db: db, menu: menu}).register()
				register(&Kitchen{db: db, menu: menu, seed: 1}, eng)
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				staff := &WaitStaff{eng: e.Engine, db: db, menu: menu}
				return staff.TakeAll(ctx, book.Orders)
			},
			Look: func(ctx context.Context, _ *weirtest.Engine) error { return report(ctx, db, w) },
		}
	}
}

// tables opens the boundaries' tables in a file, and makes them.
func tables(t *testing.T, file string) *database.Database {
	t.Helper()
	db, err := database.File(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.MakeTables(t.Context(), "wait_staff_orders", sqlWaitStaff+sqlKitchen); err != nil {
		t.Fatal(err)
	}
	return db
}

// report tells of all that was done, from the boundaries' own logs.
func report(ctx context.Context, db *database.Database, w *weirtest.World) error {
	for what, query := range map[string]string{
		"taken":  `select id from wait_staff_orders`,
		"closed": `select id from wait_staff_orders where state = 'served'`,
		"cooked": `select line from kitchen_cooked`,
		"served": `select line from wait_staff_servings`,
	} {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return err
		}
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			w.Effect(what, fmt.Sprint(id))
		}
		if err := rows.Close(); err != nil {
			return err
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}
