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
//!    [`Action`](ringmaster_core::fleet::message::Action)s, and every result comes back as an
//!    [`Event`](ringmaster_core::fleet::message::Event). The schedule itself is in the pure part.
//! 3. *Tables are derived, not commanded.* The
//!    [`RoutingTable`](ringmaster_core::fleet::table::RoutingTable) is a function of the state and is published with
//!    one swap. There is nothing to remember to take out of a pool.
//!
//! # The crates, and what each may touch
//!
//! A crate's `Cargo.toml` is the proof: the pure ones have no runtime, clock, socket, lock or log
//! among their dependencies.
//!
//! | crate | is | depends on |
//! |---|---|---|
//! | [`ringmaster_core`] | pure: [`ring`](ringmaster_core::ring) (who owns a key), [`balance`](ringmaster_core::balance) (who gets a request), [`fleet`](ringmaster_core::fleet) (desired, observed, plan, supervisor, table), [`roles`](ringmaster_core::roles) (several processes of one fleet) | hash functions |
//! | `ringmaster-sim` | pure: the simulated world around the core; only its own tests and `analysis` use it | core |
//! | `ringmaster-http1` | pure: HTTP/1.1 on bytes, for the proxy | `httparse`, `memchr` |
//! | [`ringmaster_proxy`] | the data plane: workers, forwarding, pools, retries | core, http1 |
//! | `ringmaster` | this one: everything around them | core, proxy |
//! | `ringmaster-server` | the companion server, our example replica | none of them |
//! | `analysis` | load, experiments, benchmarks beside peers | all |
//!
//! In this crate:
//!
//! | module | is | never |
//! |---|---|---|
//! | [`simulate`] | pure: a ring through a sequence of changes, without a fleet | knows of instances |
//! | [`driver`] | effects on instances behind one small trait | decides |
//! | [`control`] | the shell: owns the supervisor, carries out its actions | sees HTTP servers or the data plane |
//! | [`store`] | effects: where the committed state is kept | decides |
//! | [`api`] | parse → command → wire | sees the supervisor or a driver |
//! | [`config`], [`cli`], [`client`], [`serve`], [`logging`] | parse, wire the parts, wait | hold logic |
//!
//! Dependencies point one way:
//!
//! ```text
//! serve ─► api ─► control::Handle
//! serve ─► control ─► driver ─► core::fleet::{ids, message}
//!          control ─► store ─► core
//! serve ─► proxy ─► core::{balance, ring, fleet::table}
//!          control ─ publish(RoutingTable) ─► proxy      one swap, loaded once per request
//!          proxy ─ try_send(failed request) ─► control   bounded; drops are counted
//! cli ─► simulate ─► core::{balance, ring}               offline: `ringmaster simulate`
//! ```
//!
//! What the manifests cannot show is held up by `tests/tidy`: the pure crates use no clock, thread,
//! lock or hash map of the standard library, and the arrows inside a crate are checked by its paths.
//!
//! # Where to start reading
//!
//! - How a failure becomes a replacement: [`ringmaster_core::fleet::message`], then
//!   [`ringmaster_core::fleet::plan`], then [`ringmaster_core::fleet::supervisor`], which hands each
//!   event and each step of the plan to one concern, and its `transitions` (admit, eject, drain).
//! - How a command takes effect: `fleet/supervisor/operations`, its `queue.rs` and `commit.rs`.
//!   Newcomers start outside the ring; when all pass, the new state is written to disk, and when that
//!   is done, ring, admission and response change in one turn.
//! - How a request finds its replica: [`ringmaster_proxy`], then [`ringmaster_core::balance`], then
//!   [`Ring::preference`](ringmaster_core::ring::Ring::preference).
//! - How all of it is tested: `crates/sim` for the decisions, `crates/proxy/tests` for the bytes,
//!   `tests` for the whole program with real processes, engines and stores.
//!
//! # Threads
//!
//! W workers carry traffic, each with its own runtime, listener, upstream connections and counters.
//! Two more threads run the control side: one task owns the supervisor, and everything it asks for
//! runs concurrently beside it. One writes the log, and one the access log, where there is one. The
//! two sides share the routing table and one in-flight number per instance, nothing else.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod driver;
pub mod logging;
pub mod serve;
pub mod simulate;
pub mod store;
