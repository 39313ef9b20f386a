//! The effects of commands: changes of the ring, and results.

use std::{collections::BTreeSet, sync::Arc};

use ringmaster_core::{
    fleet::{
        command::{CommandId, CommandResult, Done, ScaleError},
        desired::Desired,
        ids::Moment,
        message::Turn,
        notes::{Cause, Note},
        observed::Instance,
        state::{Boot, State},
    },
    ring::Ring,
};

use super::{Broken, Checker, ensure};

impl Checker {
    /// Health never changes the ring; a commit moves the minimum, and only what it must.
    pub(super) fn ring_moves_only_by_commit(&self, state: &State, turn: &Turn) -> Broken {
        let Some(before) = &self.before.ring else { return Ok(()) };
        if Arc::ptr_eq(before, state.desired.ring()) {
            return Ok(());
        }
        let commit = turn.notes.iter().find_map(|note| match note {
            Note::Committed { cause, change, .. } => Some((*cause, &change.moves)),
            _ => None,
        });
        let Some((cause, moves)) = commit else {
            let is_same = before == state.desired.ring();
            return ensure(is_same || !self.before.was_booted, || {
                "the ring changed without a commit".to_owned()
            });
        };
        let ids = |ring: &Ring| ring.members().iter().map(|m| m.id).collect::<BTreeSet<_>>();
        let (old, new) = (ids(before), ids(state.desired.ring()));
        if !matches!(cause, Cause::Add | Cause::Remove | Cause::Register) {
            ensure(old == new, || format!("{cause:?} changed who there is"))?;
            let keeps_places = matches!(cause, Cause::Drain | Cause::Enable);
            return ensure(!keeps_places || moves.moves.is_empty(), || {
                format!("{cause:?} moves keys: {:?}", moves.moves)
            });
        }
        if !before.settings().algorithm.has_positions() {
            // The derived tables also move some keys between the members that stay.
            return Ok(());
        }
        for entry in &moves.moves {
            let from_gone = entry.from.is_none_or(|from| !new.contains(&from));
            let to_newcomer = entry.to.is_none_or(|to| !old.contains(&to));
            ensure(from_gone || to_newcomer, || format!("{entry:?} moves between those who stay"))?;
        }
        ensure((moves.moved_share - moves.minimum_share).abs() < 1e-9, || {
            format!("more than the minimum moves: {moves:?}")
        })
    }

    /// A restarted balancer continues with the ring, names and N of the state file.
    pub(super) fn restart_keeps_the_ring(&mut self, state: &State) -> Broken {
        if state.boot != Boot::Done {
            return Ok(());
        }
        let Some(expected) = self.expected.take() else { return Ok(()) };
        // A fleet of which nothing was left is made from the current revision.
        let (revision, rejected) = (state.desired.revision(), state.desired.rejected());
        let expected = expected.made_from(revision.cloned(), rejected.cloned());
        ensure(expected == state.desired, || "another fleet after a restart".to_owned())
    }

    pub(crate) fn answered(
        &mut self,
        id: CommandId,
        answer: &CommandResult,
        disk: Option<&Desired>,
        state: &State,
        now: Moment,
    ) -> Broken {
        let Some((_, asked)) = self.pending.remove(&id) else {
            return Err(format!("{id:?} was answered twice, or never asked"));
        };
        let on_disk = |name| disk.is_some_and(|d| d.replicas().iter().any(|r| &r.name == name));
        match answer {
            Ok(Done::Added(names)) => ensure(names.iter().all(on_disk), || {
                format!("added {names:?} before it was on disk")
            }),
            Ok(Done::Removed(names)) => {
                ensure(!names.iter().any(on_disk), || {
                    format!("removed {names:?} and it is still on disk")
                })?;
                let is_left = |i: &Instance| i.is_leaving() && names.contains(&i.name);
                ensure(!state.instances.values().any(is_left), || {
                    format!("removed {names:?} before it was gone")
                })
            }
            Err(ScaleError::Unfinished(why)) => {
                let patience = self.settings.limits.removal_deadline(1);
                ensure(now.since(asked) >= patience, || format!("{id:?} is given up early: {why}"))
            }
            Ok(Done::Changed(change)) => {
                let on_disk = disk.map(|desired| desired.ring().digest());
                // A command without a change may succeed although the disk is full.
                let is_same = change.before == change.after;
                ensure(is_same || on_disk == Some(change.after.ring.digest()), || {
                    "a ring that is not on disk".to_owned()
                })
            }
            Ok(Done::Preview(_) | Done::Retried { .. } | Done::Marked) | Err(_) => Ok(()),
        }
    }
}
