package payment

import (
	"errors"
	"log/slog"
)

// Card is the number of a card. It is hidden from whatever prints, logs or encodes: fmt and
// slog show dots, and encoding one is an error. The number is behind a function, where
// reflection does not find it either: so a struct that has a Card in it does not show it.
type Card struct{ reveal func() string }

// The length of a card's number.
const (
	digitsMin = 12
	digitsMax = 19
)

var (
	errNoCard  = errors.New("want a card's number: 12 to 19 digits of which the last one is right") // it must not be repeated here
	errSecret  = errors.New("a card cannot be encoded: it stays in payment's vault, and its token goes in its place")
	errUnknown = errors.New("the vault has no card with this token")
)

// NewCard checks a number and hides it.
func NewCard(number string) (Card, error) {
	if len(number) < digitsMin || len(number) > digitsMax || !luhn(number) {
		return Card{}, errNoCard
	}
	return Card{reveal: func() string { return number }}, nil
}

// luhn says whether the last digit is right, which is how mistyped numbers are noticed
// (ISO/IEC 7812-1, annex B).
func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

const hidden = "····"

// String implements fmt.Stringer.
func (Card) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Card) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (Card) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText refuses: so do all encodings of JSON.
func (Card) MarshalText() ([]byte, error) { return nil, errSecret }

// MarshalBinary refuses.
func (Card) MarshalBinary() ([]byte, error) { return nil, errSecret }
