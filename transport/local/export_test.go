package local

import "github.com/weir-go/weir/transport"

// Foreign puts into an inbox what did not come from Send.
func (w *Wire) Foreign(boundary string, h transport.Header, body []byte) {
	w.inbox(boundary).put(&item{header: h, body: body})
}
