package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// versionCmd is weir version.
type versionCmd struct{}

// versionView is what this program is, in JSON.
type versionView struct {
	Weir     string `json:"weir"`
	Revision string `json:"revision"` // of the source; empty if the build does not say
	Go       string `json:"go"`
	Platform string `json:"platform"`
	SQLite   string `json:"sqlite_driver"` // module version; empty if the build does not say
}

// Run says what this is.
func (versionCmd) Run(a *app) error {
	v := versionView{Weir: weir.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Revision, v.SQLite = revision(info), moduleVersion(info, "modernc.org/sqlite")
	}
	return a.print(v, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "weir\t%s\n", v.Weir)
		if v.Revision != "" {
			fmt.Fprintf(w, "revision\t%s\n", v.Revision)
		}
		fmt.Fprintf(w, "go\t%s %s\n", v.Go, v.Platform)
		if v.SQLite != "" {
			fmt.Fprintf(w, "sqlite\tmodernc.org/sqlite %s\n", v.SQLite)
		}
	})
}

func revision(info *debug.BuildInfo) string {
	rev, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = " (modified)"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + dirty
}

func moduleVersion(info *debug.BuildInfo, path string) string {
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}
