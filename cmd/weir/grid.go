package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// grid is a table whose columns may be right-aligned and grouped under a common
// head, with notes between its rows: what package tabwriter does not do.
type grid struct {
	columns []gridColumn
	lines   []gridLine
}

type gridColumn struct {
	group, title string
	right        bool
	width        int
}

// gridLine is a row of cells, or without cells a note over the whole width.
type gridLine struct {
	cells []string
	note  string
}

// newGrid makes a grid of columns: "QUEUE", ">DEPTH" to the right.
func newGrid(titles ...string) *grid {
	g := &grid{}
	g.group("", titles...)
	return g
}

// group adds columns with a head in common; an empty one has none.
func (g *grid) group(head string, titles ...string) {
	for _, title := range titles {
		title, right := strings.CutPrefix(title, ">")
		g.columns = append(g.columns, gridColumn{group: head, title: title, right: right, width: utf8.RuneCountInString(title)})
	}
}

// row adds a row, a cell a column; cells are made safe.
func (g *grid) row(cells ...string) {
	line := gridLine{cells: make([]string, len(g.columns))}
	for i := range g.columns {
		line.cells[i] = safe(cells[i])
		g.columns[i].width = max(g.columns[i].width, utf8.RuneCountInString(line.cells[i]))
	}
	g.lines = append(g.lines, line)
}

// note adds a line that keeps to no column.
func (g *grid) note(text string) {
	g.lines = append(g.lines, gridLine{note: safe(text)})
}

const (
	gridGap      = "  "
	gridGroupGap = "   " // between columns of different heads
)

func (g *grid) write(w io.Writer) {
	var b strings.Builder
	g.heads(&b)
	titles := make([]string, len(g.columns))
	for i, c := range g.columns {
		titles[i] = c.title
	}
	g.cells(&b, titles)
	for _, line := range g.lines {
		if line.cells == nil {
			b.WriteString(line.note + "\n")
			continue
		}
		g.cells(&b, line.cells)
	}
	// The writers here are buffers; a failing terminal shows when they are flushed.
	_, _ = io.WriteString(w, b.String())
}

func (g *grid) gap(i int) string {
	switch {
	case i == 0:
		return ""
	case g.columns[i].group != g.columns[i-1].group:
		return gridGroupGap
	}
	return gridGap
}

// heads writes the line of groups' heads, if there is any: "─ name ───" over its columns.
func (g *grid) heads(b *strings.Builder) {
	var line strings.Builder
	any := false
	for i := 0; i < len(g.columns); {
		head, width := g.columns[i].group, 0
		first := i
		for ; i < len(g.columns) && g.columns[i].group == head; i++ {
			width += g.columns[i].width
			if i > first {
				width += len(gridGap)
			}
		}
		line.WriteString(g.gap(first))
		text := ""
		if head != "" {
			any = true
			text = "─ " + head + " "
			text += strings.Repeat("─", max(0, width-utf8.RuneCountInString(text)))
		}
		line.WriteString(pad(text, width, false))
	}
	if any {
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

func (g *grid) cells(b *strings.Builder, cells []string) {
	var line strings.Builder
	for i, c := range g.columns {
		line.WriteString(g.gap(i))
		line.WriteString(pad(cells[i], c.width, c.right))
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

func pad(s string, width int, right bool) string {
	blank := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
	if right {
		return blank + s
	}
	return s + blank
}
