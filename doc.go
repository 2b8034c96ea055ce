// Package weir gives a Go service durable workflows and resilient asynchronous
// messaging in its own process and its own database: business processes as plain
// functions of durable steps; commands, requests and events that are sent in the
// service's own transaction, worked by competing consumers, in order per key,
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
// with its acknowledgement, or not at all), the [Run] of a workflow (once, whatever
// is replayed), or the caller's own transaction ([Engine.In]).
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
//
// # Workflows
//
// A [Workflow] is given its function by [Register]; [Start] begins a run of it. The
// function is run from its beginning whenever the run goes on: after a wait, a crash,
// a deployment. [Step], [Do], [Once], [Until], [Ask] and the others are recorded, and
// give in a replay what they gave. The rules:
//
//  1. A step returns an error only when that is one of [FailIf] or [Permanent], past its
//     [Within], or settled so by a person. Out of retries the run is parked for a person
//     and the call does not return, so a swallowed error cannot lose an order.
//  2. The errors and values that the function sees are the recorded ones, live as in a
//     replay; errors.Is holds for the sentinels of FailIf.
//  3. Steps are found again by their names, never by position; in a loop a [Key] tells
//     them apart. A record that the code no longer asks for is shown in the run's history.
//  4. Code outside steps may run again: it has no effects, and decides on recorded values
//     only: its input, what steps gave, [Run.Now]. It may change freely between deployments.
//  5. Waiting and cancelling unwind the function by [runtime.Goexit]: deferred functions
//     run, and must have no effects.
//  6. A [Run] belongs to one goroutine; parallel work is for [All]. Misuse is noticed, and
//     parks the run. Inside a handler, a step or a workflow's function, sending through the
//     engine is refused, as far as the context tells: hand on the one that you are given.
//  7. Functions given to [Message.OnCommit] and [StepTx] are short, may run again, and act
//     only through their transaction.
//  8. Messages with a key are worked in their order. A command whose owner nobody knows is
//     an error at the send.
//
// A step's effect outside the store may still happen twice: the process can die between
// the effect and its record. Hand [IdempotencyKey] to systems that take one; for those
// that do not, [Once] never acts again while it is not known whether it has acted.
package weir
