//! What the fleet is made from: which revision is started, and how a roll to another one goes.

use std::{collections::BTreeMap, sync::Arc};

use crate::fleet::supervisor::Supervisor;
use crate::fleet::{
    backoff::Backoff,
    command::{Answer, Done},
    ids::{ImageId, InstanceId, Moment, ReplicaName, SpecDigest},
    message::{Listing, Revision},
    notes::{Note, StartCause},
    observed::{Instance, Phase},
};

impl Supervisor {
    /// The build that a start is to use. Only a roll starts what is wanted and not yet known to work.
    pub(in crate::fleet::supervisor) fn image_for(&self, cause: StartCause) -> Option<ImageId> {
        if self.state.desired.replicas().is_empty() && !self.state.is_roll_stopped() {
            // Nothing runs that a newcomer should be like.
            return None;
        }
        let wanted = self.state.wanted.as_ref();
        let revision = match cause {
            StartCause::Outdated => wanted,
            StartCause::Missing | StartCause::Failing | StartCause::Addition => {
                self.state.desired.revision().or(wanted)
            }
        };
        revision.and_then(|revision| revision.image.clone())
    }

    /// Takes in what the configuration asks for, and what the found instances were started from.
    /// `is_first`: it is the first list of this run.
    pub(in crate::fleet::supervisor) fn take_specs(&mut self, listing: &Listing, is_first: bool) {
        let before = self.outdated();
        match &listing.wanted {
            Some(wanted) => self.want(wanted.clone()),
            None => self.state.wanted = None,
        }
        for found in &listing.found {
            let Some(identity) = &found.identity else { continue };
            let Some(instance) = self.state.instances.get_mut(&identity.instance) else { continue };
            if instance.handle.as_ref() == Some(&found.handle) {
                instance.spec = Some(identity.spec.clone());
            }
        }
        self.establish_revision(listing, is_first);
        let names = self.outdated().into_iter().filter(|(id, _)| !before.contains_key(id));
        let names: Vec<ReplicaName> = names.map(|(_, name)| name).collect();
        if !names.is_empty() {
            self.note(Note::Outdated { names });
        }
    }

    /// An instance was started from a revision. Where no build was named, that is what the tag names,
    /// which the last list may not have known yet.
    pub(in crate::fleet::supervisor) fn runs(&mut self, id: InstanceId, revision: Revision) {
        let Some(instance) = self.state.instances.get_mut(&id) else { return };
        let is_by_tag = instance.image.is_none() && revision.image.is_some();
        instance.spec = Some(revision.spec.clone());
        instance.image.clone_from(&revision.image);
        if is_by_tag {
            self.want(revision);
        }
    }

    /// Takes in what the tag names by now, with the settings of the configuration.
    pub(in crate::fleet::supervisor) fn want(&mut self, wanted: Revision) {
        if self.state.roll.aim_at(&wanted.spec) {
            // What failed so far was something else.
            self.state.backoffs.values_mut().for_each(Backoff::hurry);
        }
        self.state.wanted = Some(wanted);
    }

    fn outdated(&self) -> BTreeMap<InstanceId, ReplicaName> {
        let instances = self.state.instances.iter();
        let outdated = instances
            .filter(|(_, instance)| !instance.is_leaving() && self.state.is_outdated(instance));
        outdated.map(|(id, instance)| (*id, instance.name.clone())).collect()
    }

    /// A fleet of which nothing is left at the start, or that has no replicas, is made from what is
    /// wanted. One of which no state says what it was made from, from what most of its instances run.
    fn establish_revision(&mut self, listing: &Listing, is_first: bool) {
        let is_empty = (is_first || self.state.desired.replicas().is_empty())
            && listing.found.is_empty()
            && self.state.instances.is_empty();
        let revision = match self.state.desired.revision() {
            Some(_) if !is_empty || self.state.is_roll_stopped() => return,
            Some(_) => self.state.wanted.clone(),
            None => most_common(&self.state.instances, listing).or(self.state.wanted.clone()),
        };
        if revision.is_some() && revision.as_ref() != self.state.desired.revision() {
            let rejected = self.state.desired.rejected().cloned();
            self.make_from(revision, rejected);
        }
    }

    /// A fleet that had no replicas is made from what its first ones run.
    pub(in crate::fleet::supervisor) fn make_like(&mut self, id: InstanceId) {
        let instance = self.state.instances.get(&id);
        let revision = instance.and_then(|instance| {
            let spec = instance.spec.clone()?;
            Some(Revision { spec, image: instance.image.clone() })
        });
        if revision.is_some() && revision.as_ref() != self.state.desired.revision() {
            let rejected = self.state.desired.rejected().cloned();
            self.make_from(revision, rejected);
        }
    }

    /// What the fleet is made from by now, and what it is not to be made from; to be written.
    fn make_from(&mut self, revision: Option<Revision>, rejected: Option<SpecDigest>) {
        self.state.desired = self.state.desired.clone().made_from(revision, rejected);
        self.state.writing.stale = true;
    }

    /// A newcomer of a roll is watched from the moment it enters the table.
    pub(in crate::fleet::supervisor) fn bake(&mut self, id: InstanceId, now: Moment) {
        let instance = self.state.instances.get(&id);
        if instance.is_some_and(|instance| self.state.is_on_trial(instance)) {
            self.state.roll.bakes_until = now + self.state.limits.bake;
        }
    }

    /// An instance has ended, or does not pass: if a roll has brought it, and it has not served for
    /// longer than newcomers are watched, the roll may be at fault.
    pub(in crate::fleet::supervisor) fn count_against_roll(
        &mut self,
        instance: &Instance,
        why: &Arc<str>,
        now: Moment,
    ) {
        let limits = &self.state.limits;
        let watched = limits.bake.max(limits.stable_after);
        let has_proved = instance.admitted_for(now).is_some_and(|served| served > watched);
        if !self.state.is_on_trial(instance) || self.state.is_roll_stopped() || has_proved {
            return;
        }
        let roll = &mut self.state.roll;
        roll.failures = roll.failures.saturating_add(1);
        roll.last_error = Some(Arc::clone(why));
        let (failures, has_failed) = (roll.failures, roll.has_failed());
        let (name, error) = (instance.name.clone(), Arc::clone(why));
        self.note(Note::RollFailed { name, failures, error });
        if has_failed {
            let revision = self.state.desired.revision().cloned();
            let rejected = self.state.wanted.as_ref().map(|wanted| wanted.spec.clone());
            self.make_from(revision, rejected);
            self.note(Note::RollStopped { error: Arc::clone(why) });
        }
    }

    pub(in crate::fleet::supervisor) fn complete_roll(&mut self) {
        let wanted = self.state.wanted.clone();
        self.make_from(wanted, None);
        self.state.roll.start_over();
        self.note(Note::RollCompleted);
    }

    /// The engine does not have the fleet's image any more: what is wanted takes its place.
    pub(in crate::fleet::supervisor) fn lose_revision(
        &mut self,
        started: Option<&ImageId>,
    ) -> bool {
        let (Some(wanted), Some(revision)) = (&self.state.wanted, self.state.desired.revision())
        else {
            return false;
        };
        let is_lost = revision.image.as_ref() == started && wanted.image != revision.image;
        let Some(image) = revision.image.clone().filter(|_| is_lost) else { return false };
        let wanted = Some(wanted.clone());
        self.make_from(wanted, None);
        self.note(Note::RevisionLost { image });
        true
    }

    /// What a retry would try again.
    pub(in crate::fleet::supervisor) fn what_waits(&self, now: Moment) -> Done {
        let roll = self.state.is_roll_stopped();
        let waiting = self.state.backoffs.values().filter(|b| b.not_before() > now).count();
        Done::Retried { roll, waiting }
    }

    /// Tries again at once what was given up or waits.
    pub(in crate::fleet::supervisor) fn retry(&mut self, now: Moment) -> Answer {
        let waits = self.what_waits(now);
        if self.state.is_roll_stopped() {
            let revision = self.state.desired.revision().cloned();
            self.make_from(revision, None);
            self.note(Note::RollRetried);
        }
        self.state.roll.start_over();
        self.state.backoffs.clear();
        Ok(waits)
    }
}

/// What most of the adopted instances run from; of equals the latest.
fn most_common(
    instances: &crate::fleet::observed::Instances,
    listing: &Listing,
) -> Option<Revision> {
    let mut counts: BTreeMap<_, (usize, InstanceId, Revision)> = BTreeMap::new();
    for identity in listing.found.iter().filter_map(|found| found.identity.as_ref()) {
        let is_ours = instances
            .get(&identity.instance)
            .is_some_and(|instance| !matches!(instance.phase, Phase::Starting { .. }));
        if is_ours {
            let revision = Revision { spec: identity.spec.clone(), image: identity.image.clone() };
            let entry =
                counts.entry(identity.spec.clone()).or_insert((0, identity.instance, revision));
            entry.0 += 1;
            entry.1 = entry.1.max(identity.instance);
        }
    }
    let most = counts.into_values().max_by_key(|(count, latest, _)| (*count, *latest));
    most.map(|(_, _, revision)| revision)
}
