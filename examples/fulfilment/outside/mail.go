package outside

import (
	"context"
	"net/http"
)

const sqlMail = `
create table if not exists mails (
  id      integer primary key,
  ordered text not null,
  text    text not null,
  at      text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create index if not exists mails_ordered on mails (ordered);
`

const sqlSendMail = `insert into mails (ordered, text) values (?1, ?2)`

func (s *System) mail() (schema string) {
	s.writes("POST /mails", sendMail)
	return sqlMail
}

func sendMail(ctx context.Context, q querier, r *request) (answer, error) {
	var m struct {
		Order string `json:"order"`
		Text  string `json:"text"`
	}
	if err := r.into(&m); err != nil {
		return answer{}, err
	}
	_, err := q.ExecContext(ctx, sqlSendMail, m.Order, m.Text)
	return answer{http.StatusAccepted, nil}, err
}
