//! What the fleet is made from, what is wanted instead, and how a roll to that goes.

use super::data::State;
use crate::fleet::{
    backoff::Backoff,
    ids::{ImageId, InstanceId, Moment, SpecDigest},
    notes::StartCause,
    observed::Instance,
    values::Revision,
};

impl State {
    /// Whether an instance was started from something else than what is wanted now.
    pub fn is_outdated(&self, instance: &Instance) -> bool {
        match (&self.wanted, &instance.spec) {
            (Some(wanted), Some(spec)) => wanted.spec != *spec,
            _ => false,
        }
    }

    /// Whether what is wanted is not yet what the fleet is made from.
    pub fn is_rolling(&self) -> bool {
        match (&self.wanted, self.desired.revision()) {
            (Some(wanted), Some(revision)) => wanted.spec != revision.spec,
            _ => false,
        }
    }

    /// Whether the roll to what is wanted was given up.
    pub fn is_roll_stopped(&self) -> bool {
        let wanted = self.wanted.as_ref().map(|wanted| &wanted.spec);
        wanted.is_some() && wanted == self.desired.rejected()
    }

    /// Whether a spec is what a roll leads to, and may turn out to be bad.
    pub fn is_on_trial(&self, instance: &Instance) -> bool {
        let wanted = self.wanted.as_ref().map(|wanted| &wanted.spec);
        self.is_rolling() && wanted.is_some() && wanted == instance.spec.as_ref()
    }

    /// The build that a start is to use. Only a roll starts what is wanted and not yet known to work.
    pub(crate) fn image_for(&self, cause: StartCause) -> Option<ImageId> {
        if self.desired.replicas().is_empty() && !self.is_roll_stopped() {
            // Nothing runs that a newcomer should be like.
            return None;
        }
        let wanted = self.wanted.as_ref();
        let revision = match cause {
            StartCause::Outdated => wanted,
            StartCause::Missing | StartCause::Failing | StartCause::Addition => {
                self.desired.revision().or(wanted)
            }
        };
        revision.and_then(|revision| revision.image.clone())
    }

    /// Takes in what the tag names by now, with the settings of the configuration.
    pub(crate) fn want(&mut self, wanted: Revision) {
        if self.roll.aim_at(&wanted.spec) {
            // What failed so far was something else.
            self.backoffs.values_mut().for_each(Backoff::retry_now);
        }
        self.wanted = Some(wanted);
    }

    /// An instance was started from a revision. Where no build was named, that is what the tag names,
    /// which the last list may not have known yet.
    pub(crate) fn runs(&mut self, id: InstanceId, revision: Revision) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let is_by_tag = instance.image.is_none() && revision.image.is_some();
        instance.spec = Some(revision.spec.clone());
        instance.image.clone_from(&revision.image);
        if is_by_tag {
            self.want(revision);
        }
    }

    /// What the fleet is made from by now, and what it is not to be made from; to be written.
    pub(crate) fn make_from(&mut self, revision: Option<Revision>, rejected: Option<SpecDigest>) {
        self.desired = self.desired.clone().made_from(revision, rejected);
        self.writing.stale = true;
    }

    /// A revision that was found out becomes the fleet's; what was rejected stays so.
    pub(crate) fn establish(&mut self, revision: Option<Revision>) {
        if revision.is_some() && revision.as_ref() != self.desired.revision() {
            self.make_from(revision, self.desired.rejected().cloned());
        }
    }

    /// A fleet that had no replicas is made from what its first ones run.
    pub(crate) fn establish_like(&mut self, id: InstanceId) {
        let instance = self.instances.get(&id);
        self.establish(instance.and_then(|instance| {
            let spec = instance.spec.clone()?;
            Some(Revision { spec, image: instance.image.clone() })
        }));
    }

    /// The roll to what is wanted is given up; what runs goes on from the revision before.
    pub(crate) fn reject_wanted(&mut self) {
        let rejected = self.wanted.as_ref().map(|wanted| wanted.spec.clone());
        self.make_from(self.desired.revision().cloned(), rejected);
    }

    /// A newcomer of a roll is watched from the moment it enters the table.
    pub(crate) fn watch_newcomer(&mut self, id: InstanceId, now: Moment) {
        let instance = self.instances.get(&id);
        if instance.is_some_and(|instance| self.is_on_trial(instance)) {
            self.roll.bakes_until = now + self.limits.bake;
        }
    }
}
