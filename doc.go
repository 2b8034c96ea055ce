// Package weir gives a Go service resilient asynchronous messaging in its own
// process and its own database: commands, requests and events that are sent in
// the service's own transaction, worked by competing consumers, in order per key,
// retried, bounded, journaled, and never lost.
//
// # Shape
//
// A contract is an immutable value that names a message and its type; its owner
// declares it, everybody imports it:
//
//	var PrepareFood = weir.NewRequest[Ticket, Plate]("kitchen.prepare-food", weir.KeyedBy(Ticket.TableNo))
//
// Behaviour is registered per engine, with [Handle], [Answer] and [Subscribe];
// handlers are plain functions or methods. Everything that can send is a
// [Sender]: the [Engine] (a commit of its own), the [Message] in hand (leaves
// with its acknowledgement, or not at all), or the caller's own transaction
// ([Engine.In]).
//
// # Promises
//
// A message whose send has returned nil is durable. It is delivered at least once
// to each of its queues, until it is acknowledged or dead. What an attempt writes
// through weir (its acknowledgement, the messages it sends, the rows written in
// [Message.OnCommit]) commits in one transaction, which also checks that no other
// attempt has taken over: of all attempts exactly one takes effect. Effects
// outside the store happen at least once; hand [IdempotencyKey] to whom it concerns.
//
// Messages with a key are worked in the order of their commits, one at a time;
// there is no order across keys.
//
// # Errors of a handler
//
// An error is retried by the queue's [Retry]; then the message is dead and waits
// for a person. [Permanent] goes there at once. [NotYet] is no failure: the
// message comes again later, and the reason is kept. A panic counts as an error,
// with its stack.
package weir
