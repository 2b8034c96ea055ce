package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what is printed.
type report struct {
	Figures  []figure       `json:"figures"`
	LeftOut  []string       `json:"left_out"`
	Settings reportSettings `json:"settings"`
}

// figure is one figure of weir and of a peer, medians of the rounds.
type figure struct {
	Name    string  `json:"figure"`
	Peer    string  `json:"peer"` // or weir itself, where nobody is compared with it: then there is no ratio
	Value   float64 `json:"peer_value"`
	Setting string  `json:"peer_setting,omitempty"`
	Against string  `json:"against,omitempty"` // which weir
	Weir    float64 `json:"weir_value,omitzero"`
	// Ratio is the median of the rounds' ratios weir/peer. Rates are good when it is high, times when it is low.
	Ratio     float64   `json:"ratio,omitzero"`
	RatioLow  float64   `json:"ratio_low,omitzero"`
	RatioHigh float64   `json:"ratio_high,omitzero"`
	Weirs     []float64 `json:"weir_rounds,omitempty"`
	Values    []float64 `json:"peer_rounds"`
}

type reportSettings struct {
	Postgres   string  `json:"postgres,omitempty"` // the server's version
	Seconds    float64 `json:"phase_seconds"`
	Rounds     int     `json:"rounds"`
	OpenTx     float64 `json:"open_tx_seconds,omitempty"`
	Rate       int     `json:"rate_per_s,omitempty"`
	Backlog    int64   `json:"backlog,omitempty"`
	BatchSize  int     `json:"batch_size"`
	Senders    int     `json:"senders"`
	BodyBytes  int     `json:"body_bytes"`
	Go         string  `json:"go"`
	CPUs       int     `json:"cpus"`
	LoadBefore string  `json:"load_before"`
	Took       float64 `json:"seconds"`
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// report compares each peer with its weir.
func (b *bench) report() *report {
	r := &report{LeftOut: append([]string{}, b.skipped...), Figures: []figure{}, Settings: b.describe()}
	for _, p := range b.measured {
		for _, name := range b.names {
			mine, theirs := b.values[name][p.against], b.values[name][p.name]
			if len(theirs) == 0 || b.compared(name, p) {
				continue
			}
			f := figure{
				Name: name, Peer: p.name, Value: median(theirs), Values: theirs, Setting: b.setting(name, p),
				Against: p.against, Weir: median(mine), Weirs: mine,
			}
			var ratios []float64
			for i := range min(len(mine), len(theirs)) {
				ratios = append(ratios, mine[i]/theirs[i])
			}
			if len(ratios) > 0 {
				f.Ratio, f.RatioLow, f.RatioHigh = median(ratios), slices.Min(ratios), slices.Max(ratios)
			}
			r.Figures = append(r.Figures, f)
		}
	}
	return r
}

// compared reports whether a figure of weir stands in the line of a peer.
func (b *bench) compared(figure string, p *peer) bool {
	return slices.ContainsFunc(b.measured, func(other *peer) bool {
		return other.against == p.name && len(b.values[figure][other.name]) > 0
	})
}

// setting is the setting with which a figure of a peer was taken.
func (b *bench) setting(figure string, p *peer) string {
	for _, ph := range b.phases() {
		if !slices.Contains(ph.figures, figure) {
			continue
		}
		names := ph.settings(p)
		v, ok := b.best[ph.name][p.name]
		if ok && v < len(names) {
			return names[v]
		}
		return ""
	}
	return p.setting(b.best["both"]) // beside an open transaction, and behind a backlog
}

// setting names the one that was best.
func (p *peer) setting(best map[string]int) string {
	if v, ok := best[p.name]; ok && v < len(p.variants) {
		return p.variants[v]
	}
	return ""
}

func (b *bench) describe() reportSettings {
	s := reportSettings{
		Seconds: b.seconds, Rounds: b.rounds, OpenTx: b.openTx.Seconds(), Backlog: b.backlog, BatchSize: batchSize, Senders: senders,
		BodyBytes: bodyBytes(), Go: runtime.Version(), CPUs: runtime.NumCPU(), LoadBefore: b.load, Took: time.Since(b.began).Seconds(),
	}
	if b.openTx > 0 {
		s.Rate = b.rate
	}
	if b.server != nil {
		s.Postgres = b.server.version
	}
	return s
}

// print is the table: a line for each figure of each peer.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tweir\t\tpeer\t\tweir/peer\tof the rounds\tpeer's setting")
	for _, f := range r.Figures {
		if f.Against == "" {
			fmt.Fprintf(w, "%s\t%s\t%s\t\t\t\t\t\n", f.Name, f.Peer, number(f.Value))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f to %.2f\t%s\n", f.Name, f.Against, number(f.Weir), f.Peer, number(f.Value), f.Ratio, f.RatioLow, f.RatioHigh, f.Setting)
	}
	fmt.Fprintln(w, "weir/peer: of rates the higher is the better for weir, of times (ms) the lower")
	for _, l := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s\n", l)
	}
	return w.Flush()
}

// number is v with thousands grouped, or with two digits behind the point if it is small.
func number(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	s := strconv.FormatInt(int64(v+0.5), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// loadAverage is the machine's of the last minute; empty where /proc does not say.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
