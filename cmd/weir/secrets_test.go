package main

import (
	"net/url"
	"strings"
	"testing"
)

// A password in --store is not printed, however the address is mistyped.
func TestPasswordsAreNotPrinted(t *testing.T) {
	const canary = "hunter2"
	for _, at := range []string{
		"host=127.0.0.1 port=1 user=ann password=hunter2 dbname=orders",
		"postgres://ann:hunter2@127.0.0.1:1/orders",
		"postgres://ann:%zzhunter2@127.0.0.1:1/orders",
		"postgres://ann:a/hunter2@127.0.0.1:1/orders",
		"postgres://ann:a#hunter2@127.0.0.1:1/orders",
		"postgres://ann:a hunter2@127.0.0.1:1/orders",
		"postgres://ann:hunter2@127.0.0.1:port/orders",
		"postgres://ann:hunter2@127.0.0.1:1/orders?pool_max_conns=many",
		"postgres://ann:hunter2@127.0.0.1:1/orders?sslmode=perhaps",
		"postgres://ann:hunter2@127.0.0.1:1/orders?default_query_exec_mode=none",
		"postgres://ann@127.0.0.1:1/orders?password=hunter2",
		"postgres://127.0.0.1:port/orders?user=ann&password=hunter2",
		"Postgres://ann:hunter2@127.0.0.1:1/orders",
		"postgres:/ann:hunter2@127.0.0.1:1/orders",
		"pg://ann:hunter2@127.0.0.1:1/orders",
	} {
		for _, verb := range []string{"status", "queue ls --json", "doctor", "store renew --why test", "demo --workers 2"} {
			var out, said strings.Builder
			code := run(t.Context(), append([]string{"--store", at}, strings.Fields(verb)...), streams{strings.NewReader(""), &out, &said})
			s := struct{ out, err string }{out.String(), said.String()}
			if strings.Contains(s.out+s.err, canary) {
				t.Errorf("weir --store %s %s prints the password: %s%s", at, verb, s.out, s.err)
			}
			if s.err == "" || code == 0 {
				t.Errorf("weir --store %s %s ends with %d and says %q, want it to fail and say why", at, verb, code, s.err)
			}
		}
	}
}

func TestUnsecret(t *testing.T) {
	for _, at := range []string{
		"postgres://ann:hunter2@db/orders?sslmode=require",
		"postgres://ann@db/orders?sslmode=require&password=hunter2",
		"postgres://db/orders?user=ann&password=hunter2",
	} {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := unsecret(u); strings.Contains(got, "hunter2") || !strings.Contains(got, "db/orders") {
			t.Errorf("unsecret(%s) = %s, want it without the password", at, got)
		}
	}
}
