//! What a concern works with beside the state: the moment, the settings, chance, and the outbox for
//! what the shell is to do and to report.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::settings::Settings;
use crate::fleet::{
    command::{CommandId, CommandResult},
    ids::{Moment, ReplicaName},
    message::Action,
    notes::Note,
    state::State,
};

/// Chance: one generator per purpose, so that a new draw in one place does not shift the others.
#[derive(Debug)]
pub(super) struct Chance {
    names: StdRng,
    /// Names that a dry run has shown: the next to be drawn.
    undrawn: VecDeque<ReplicaName>,
    jitter: StdRng,
}

/// What is to be given out with the next turn.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) actions: Vec<Action>,
    pub(super) notes: Vec<Note>,
}

/// One event's context.
pub(super) struct Context<'a> {
    pub(super) now: Moment,
    pub(super) settings: &'a Settings,
    pub(super) chance: &'a mut Chance,
    pub(super) outbox: &'a mut Outbox,
}

impl Context<'_> {
    /// Reports a transition.
    pub(super) fn note(&mut self, note: Note) {
        self.outbox.notes.push(note);
    }

    /// Asks the shell for an effect.
    pub(super) fn act(&mut self, action: Action) {
        self.outbox.actions.push(action);
    }

    /// Responds to a command.
    pub(super) fn respond(&mut self, command: CommandId, result: CommandResult) {
        self.act(Action::Respond(command, result));
    }
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: StdRng::seed_from_u64(seed),
            undrawn: VecDeque::new(),
            jitter: StdRng::seed_from_u64(seed.rotate_left(32) ^ 1),
        }
    }

    /// From 0 to 1.
    pub(super) fn jitter(&mut self) -> f64 {
        self.jitter.random::<f64>()
    }

    /// `server_<6 random digits>`, free as far as is known, and none of `reserved`.
    pub(super) fn name(&mut self, state: &State, reserved: &[ReplicaName]) -> ReplicaName {
        let is_free = |name: &ReplicaName| !state.is_name_taken(name) && !reserved.contains(name);
        while let Some(name) = self.undrawn.pop_front() {
            if is_free(&name) {
                return name;
            }
        }
        // A million numbers and at most some thousand names: a free one comes up at once.
        for _ in 0..1_000 {
            let name = ReplicaName::numbered(self.names.random_range(100_000..1_000_000));
            if is_free(&name) {
                return name;
            }
        }
        ReplicaName::numbered(self.names.random_range(1_000_000..u32::MAX))
    }

    /// The next name to be drawn: a dry run has shown it.
    pub(super) fn put_back(&mut self, name: ReplicaName) {
        self.undrawn.push_front(name);
    }
}
