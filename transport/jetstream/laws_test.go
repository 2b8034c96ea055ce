package jetstream_test

import (
	"testing"

	"github.com/weir-go/weir/transport/transporttest"
)

func TestLaws(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, func(t testing.TB, s transporttest.Settings) transporttest.Harness { return openInProcess(t, s) })
}

func TestBrokerLaws(t *testing.T) {
	t.Parallel()
	transporttest.RunBroker(t, func(t testing.TB, s transporttest.Settings) transporttest.Broker { return openInProcess(t, s) })
}

// The same with a broker that is killed by SIGKILL.
func TestBrokerLawsKilled(t *testing.T) {
	t.Parallel()
	transporttest.RunBroker(t, func(t testing.TB, s transporttest.Settings) transporttest.Broker { return openChild(t, s) })
}
