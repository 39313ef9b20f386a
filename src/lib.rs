//! Ringmaster keeps N replicas of a container alive and sends every key to the same one.
//!
//! **All decisions are pure functions, all effects are dumb.** The supervisor takes an event and a
//! moment and answers with actions; the data plane reads one immutable routing table. So months of
//! failures are played in a test, a change is shown before it is made, and no key moves but by a
//! committed command.
//!
//! # Three ideas
//!
//! 1. *Identity is not incarnation.* A replica is a desired identity with its positions on the
//!    ring. An instance is one concrete run of it. A dead instance is replaced by the next
//!    incarnation of the same replica, under a new name, on the same slots: health decides who is
//!    admitted, never who owns a key.
//! 2. *One pipeline of effects.* Heartbeats, starts, stops and lists are all
//!    [`Action`](fleet::message::Action)s, and every result comes back as an
//!    [`Event`](fleet::message::Event). The schedule itself is in the pure part.
//! 3. *Tables are derived, not commanded.* The
//!    [`RoutingTable`](fleet::table::RoutingTable) is a function of the state and is published with
//!    one swap. There is nothing to remember to take out of a pool.
//!
//! # The layers, and what each never does
//!
//! | module | is | never |
//! |---|---|---|
//! | [`ring`] | pure: hash functions, placement, lookup, shares, moves | knows of health |
//! | [`fleet`] | pure: desired, observed, plan, supervisor, table | asks a clock, draws from ambient chance, logs, waits |
//! | [`roles`] | pure: several processes of one fleet: lease, published tables, acknowledgements | knows of a store's protocol |
//! | [`balance`] | pure: who gets a request | sees a connection |
//! | [`simulate`] | pure: a ring through a sequence of changes, without a fleet | knows of instances |
//! | [`sim`] | pure: the world in which the supervisor is tested | is reached from the program |
//! | [`driver`] | effects on instances behind one small trait | decides |
//! | [`control`] | the shell: owns the supervisor, carries out its actions | sees HTTP servers or the data plane |
//! | [`store`] | effects: where the committed state is kept | decides |
//! | [`proxy`] | the data plane: workers, forwarding, pools, retries | sees the supervisor or a driver |
//! | `crates/http1` | pure: HTTP/1.1 on bytes; the proxy still stands on hyper | knows of a socket or a clock |
//! | [`api`] | parse → command → wire | sees the supervisor or a driver |
//! | [`config`], [`cli`], [`client`], [`serve`], [`logging`] | parse, wire the parts, wait | hold logic |
//!
//! Dependencies point one way:
//!
//! ```text
//! serve ─► api ─► control::Handle
//! serve ─► control ─► driver ─► fleet::{ids, message}
//!          control ─► store ─► fleet
//! serve ─► proxy ─► balance ─► ring
//!          control ─ publish(RoutingTable) ─► proxy      one swap, loaded once per request
//!          proxy ─ try_send(failed request) ─► control   bounded; drops are counted
//! cli ─► simulate ─► balance, ring, fleet::victim      offline: `ringmaster simulate`
//! store, control ─► roles ─► fleet, ring           several processes of one fleet
//! ring, fleet, roles, balance, simulate, sim ─► std and hash crates only
//! ```
//!
//! `tests/tidy.rs` holds this up: the pure folders name no clock, thread, lock, runtime, log or
//! hash map, and the arrows are checked by their `use` lines.
//!
//! # Where to start reading
//!
//! - How a failure becomes a replacement: [`fleet::message`], then [`fleet::plan`], then
//!   `fleet/supervisor/events.rs`.
//! - How a command takes effect: `fleet/supervisor/commands.rs`. Newcomers start outside the ring;
//!   when all pass, the new state is written to disk, and when that is done, ring, admission and
//!   answer change in one turn.
//! - How a request finds its replica: [`proxy`], then [`balance`], then [`ring::Ring::preference`].
//! - How all of it is tested: [`sim`].
//!
//! # Threads
//!
//! W workers carry traffic, each with its own runtime, listener, upstream connections and counters.
//! Two more threads run the control side: one task owns the supervisor, and everything it asks for
//! runs concurrently beside it. One writes the log, and one the access log, where there is one. The
//! two sides share the routing table and one in-flight number per instance, nothing else.

pub mod api;
pub mod balance;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod driver;
pub mod fleet;
#[doc(hidden)]
pub mod fuzzing;
pub mod logging;
pub mod proxy;
pub mod ring;
pub mod roles;
pub mod serve;
pub mod sim;
pub mod simulate;
pub mod store;
