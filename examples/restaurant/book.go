package restaurant

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of what is read. They are far beyond any restaurant, and small enough
// that a wrong file is refused rather than filling the memory.
const (
	fileBytesMax  = 64 << 20
	bookLinesMax  = 1_000_000
	orderLinesMax = 200 // well below the kitchen's capacity, so that every order fits
	dishesMax     = 10_000
	fieldBytesMax = 200
	faultsMax     = 10 // told at once
)

// Book is an order book: the orders in the order of their first lines.
type Book struct {
	Orders []Order
	Lines  int // of all orders
}

// Order is what one table wants.
type Order struct {
	ID      int64
	TakenAt time.Time // as written, taken for UTC
	Lines   []Line
}

// Line is one line of an order.
type Line struct {
	ID   int64
	Row  int    // its line in the file
	Item string // as written: it may be no item at all
}

// Menu is what the kitchen can cook, by item as it is written in the book.
type Menu map[string]string

// Dish is the name of an item's dish; the error says why there is none.
func (m Menu) Dish(item string) (string, error) {
	if item == "" || strings.EqualFold(item, "null") {
		return "", errors.New("no item")
	}
	if dish, ok := m[item]; ok {
		return dish, nil
	}
	return "", fmt.Errorf("item %q is not on the menu", item)
}

// OpenBook reads the order book at path, see ReadBook.
func OpenBook(path string) (Book, error) { return open(path, ReadBook) }

// OpenMenu reads the menu at path, see ReadMenu.
func OpenMenu(path string) (Menu, error) { return open(path, ReadMenu) }

func open[T any](path string, read func(io.Reader) (T, error)) (T, error) {
	f, err := os.Open(path)
	if err != nil {
		var none T
		return none, err
	}
	defer f.Close()
	v, err := read(f)
	if err != nil {
		err = fmt.Errorf("read %s: %w", filepath.Base(path), err)
	}
	return v, err
}

// ReadBook reads an order book: CSV with the columns order_details_id, order_id,
// order_date, order_time and item_id, a line of an order each. It is taken for
// what it is: a byte-order mark is skipped, dates are 01-31-2023 or 1/31/23 (the
// month first), times have AM or PM, and any item is passed on, also NULL: the
// menu tells which can be cooked.
//
// A line that cannot be told to belong to one order at one time is an error: who
// left it out would lose it. The error names the first such lines.
func ReadBook(r io.Reader) (Book, error) {
	t, err := newTable(r, "order_details_id", "order_id", "order_date", "order_time", "item_id")
	if err != nil {
		return Book{}, err
	}
	b := bookReader{index: map[int64]int{}, seen: map[int64]int{}}
	if err := t.each(bookLinesMax, b.add); err != nil {
		return Book{}, err
	}
	if b.book.Lines == 0 {
		return Book{}, errors.New("there is no order in it")
	}
	return b.book, nil
}

// bookReader puts the lines of a book together to orders.
type bookReader struct {
	book  Book
	index map[int64]int // in book.Orders, by order
	seen  map[int64]int // where a line was, by its ID
}

func (b *bookReader) add(row int, field []string) error {
	line, lineErr := positive("order_details_id", field[0])
	order, orderErr := positive("order_id", field[1])
	at, timeErr := readTime(field[2], field[3])
	if err := errors.Join(lineErr, orderErr, timeErr); err != nil {
		return err
	}
	if before, twice := b.seen[line]; twice {
		return fmt.Errorf("order_details_id %d is that of line %d, too", line, before)
	}
	b.seen[line] = row
	i, known := b.index[order]
	if !known {
		i = len(b.book.Orders)
		b.index[order] = i
		b.book.Orders = append(b.book.Orders, Order{ID: order, TakenAt: at})
	}
	o := &b.book.Orders[i]
	if !o.TakenAt.Equal(at) {
		return fmt.Errorf("order %d was taken %s in line %d, %s here", order,
			o.TakenAt.Format(time.DateTime), o.Lines[0].Row, at.Format(time.DateTime))
	}
	if len(o.Lines) == orderLinesMax {
		return fmt.Errorf("order %d has more than %d lines", order, orderLinesMax)
	}
	o.Lines = append(o.Lines, Line{ID: line, Row: row, Item: field[4]})
	b.book.Lines++
	return nil
}

// ReadMenu reads a menu: CSV with the columns menu_item_id and item_name.
func ReadMenu(r io.Reader) (Menu, error) {
	t, err := newTable(r, "menu_item_id", "item_name")
	if err != nil {
		return nil, err
	}
	m := Menu{}
	err = t.each(dishesMax, func(_ int, field []string) error {
		item, dish := field[0], field[1]
		if _, err := positive("menu_item_id", item); err != nil {
			return err
		}
		if dish == "" {
			return fmt.Errorf("item %s has no name", item)
		}
		if other, twice := m[item]; twice {
			return fmt.Errorf("item %s is %s and %s", item, other, dish)
		}
		m[item] = dish
		return nil
	})
	if err == nil && len(m) == 0 {
		err = errors.New("there is no dish in it")
	}
	return m, err
}

func positive(what, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q, want a whole number from 1", what, text)
	}
	return n, nil
}

// readTime reads a date in either of the book's forms, which a spreadsheet made
// of one: the days up to the 12th became 01-02-2023, where it took month for day.
func readTime(date, clock string) (time.Time, error) {
	for _, form := range []string{"01-02-2006", "1/2/06"} {
		if t, err := time.Parse(form+" 3:04:05 PM", date+" "+clock); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("order_date and order_time are %q and %q, want 01-31-2023 or 1/31/23 and 1:02:03 PM", date, clock)
}

// table reads the named columns of a CSV file, wherever they stand.
type table struct {
	csv    *csv.Reader
	left   *io.LimitedReader
	column []int // where the named columns are
	width  int
}

const byteOrderMark = "\ufeff"

func newTable(r io.Reader, names ...string) (*table, error) {
	left := &io.LimitedReader{R: r, N: fileBytesMax + 1}
	text := bufio.NewReader(left)
	if mark, _ := text.Peek(len(byteOrderMark)); bytes.Equal(mark, []byte(byteOrderMark)) {
		_, _ = text.Discard(len(byteOrderMark)) // it was peeked: it is there
	}
	t := &table{csv: csv.NewReader(text), left: left}
	t.csv.FieldsPerRecord = -1 // counted here, for a better error
	header, err := t.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty")
	}
	if err != nil {
		return nil, err
	}
	t.width = len(header)
	for i := range header {
		header[i] = strings.ToLower(strings.TrimSpace(header[i]))
	}
	var missing []string
	for _, name := range names {
		i := slices.Index(header, name)
		if i < 0 {
			missing = append(missing, name)
		}
		t.column = append(t.column, i)
	}
	if missing != nil {
		return nil, fmt.Errorf("its first line does not name the columns %s", strings.Join(missing, ", "))
	}
	return t, nil
}

// each calls add with the columns of each line, and joins its first errors. Lines
// of nothing but empty fields, which spreadsheets leave at the end, are skipped.
func (t *table) each(linesMax int, add func(row int, field []string) error) error {
	var faults []error
	for lines := 0; len(faults) < faultsMax; {
		record, err := t.csv.Read()
		if t.left.N <= 0 {
			return fmt.Errorf("it is larger than %d MiB", fileBytesMax>>20)
		}
		if errors.Is(err, io.EOF) {
			return errors.Join(faults...)
		}
		if err != nil { // the rest of the file cannot be trusted to be cut into fields right
			return errors.Join(append(faults, err)...)
		}
		if !slices.ContainsFunc(record, func(f string) bool { return f != "" }) {
			continue
		}
		if lines++; lines > linesMax {
			return fmt.Errorf("it has more than %d lines", linesMax)
		}
		row, _ := t.csv.FieldPos(0)
		field, err := t.pick(record)
		if err == nil {
			err = add(row, field)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("line %d: %w", row, err))
		}
	}
	return errors.Join(append(faults, errors.New("there may be more such lines"))...)
}

// pick gives the named columns of a line.
func (t *table) pick(record []string) ([]string, error) {
	if len(record) != t.width {
		return nil, fmt.Errorf("it has %d fields, the first line has %d", len(record), t.width)
	}
	field := make([]string, len(t.column))
	for i, c := range t.column {
		field[i] = strings.Clone(strings.TrimSpace(record[c]))
		if len(field[i]) > fieldBytesMax {
			return nil, fmt.Errorf("its field %d has %d bytes, want at most %d", c+1, len(field[i]), fieldBytesMax)
		}
	}
	return field, nil
}
