//! Those who join: newcomers that are started or registered, outside the ring until all are there,
//! and what becomes of them when one cannot.

use crate::fleet::supervisor::{Supervisor, operations::queue::no_room};
use crate::fleet::{
    command::{CommandId, Done, ScaleError},
    desired::Newcomer,
    ids::{InstanceId, Moment, ReplicaId, ReplicaName},
    message::StartError,
    notes::{Note, StartCause},
    observed::of_replica,
    operation::{AddStage, Operation},
    server::Registration,
    values::Keeper,
};

/// How long a given-up addition waits for what it had started to go.
const ROLL_BACK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(15);

impl Supervisor {
    pub(in crate::fleet::supervisor) fn begin_add(
        &mut self,
        command: CommandId,
        n: usize,
        names: &[ReplicaName],
        weight: u32,
        now: Moment,
    ) -> Result<(), ScaleError> {
        let newcomers = self.newcomers(n, names, weight)?;
        self.check_engine()?;
        let deadline = now + self.state.limits.start_deadline;
        self.begin_to_join(command, newcomers, names.len(), deadline)
    }

    pub(in crate::fleet::supervisor) fn begin_register(
        &mut self,
        command: CommandId,
        servers: &[Registration],
        now: Moment,
    ) -> Result<(), ScaleError> {
        let newcomers = self.registered(servers)?;
        if newcomers.is_empty() {
            self.answer(command, Ok(Done::Added(Vec::new())));
            return Ok(());
        }
        let (named, deadline) = (newcomers.len(), now + self.state.limits.register_wait);
        self.begin_to_join(command, newcomers, named, deadline)
    }

    fn begin_to_join(
        &mut self,
        command: CommandId,
        newcomers: Vec<Newcomer>,
        named: usize,
        deadline: Moment,
    ) -> Result<(), ScaleError> {
        let after = self.state.desired.with(&newcomers).map_err(no_room)?;
        // These identities are used up even if the addition fails: its containers bear them.
        self.state.next_id = after.next_id().max(self.state.next_id);
        self.state.operation = Some(Operation::Adding {
            command,
            named,
            places: after.replicas()[after.replicas().len() - newcomers.len()..]
                .iter()
                .map(|replica| replica.member.clone())
                .collect(),
            newcomers,
            stage: AddStage::Warming { deadline },
        });
        Ok(())
    }

    /// Starts a newcomer of the running addition, with the place on the ring that it will have.
    pub(in crate::fleet::supervisor) fn start_newcomer(&mut self, replica: ReplicaId, now: Moment) {
        let Some(Operation::Adding { newcomers, places, .. }) = &self.state.operation else {
            return;
        };
        let mut joining = newcomers.iter().zip(places);
        let joining = joining.find(|(newcomer, _)| newcomer.id == replica);
        if let Some((newcomer, member)) = joining.map(|(n, member)| (n.clone(), member.clone())) {
            if newcomer.server.is_some() {
                return self.begin_to_serve(replica, now);
            }
            let id = InstanceId { replica, incarnation: newcomer.incarnation };
            self.start(id, newcomer.name, &member, StartCause::Addition, now);
        }
    }

    /// Who would join: given names first, then drawn ones.
    pub(in crate::fleet::supervisor) fn newcomers(
        &mut self,
        n: usize,
        names: &[ReplicaName],
        weight: u32,
    ) -> Result<Vec<Newcomer>, ScaleError> {
        if self.state.keeper == Keeper::Others {
            return Err(ScaleError::Static);
        }
        for name in names {
            if self.state.foreign_names.contains(name) {
                return Err(ScaleError::Foreign(name.clone()));
            }
            self.is_free(name)?;
            self.state.limits.names.check(name).map_err(ScaleError::BadName)?;
        }
        self.has_room(n)?;
        let mut names = names.to_vec();
        while names.len() < n {
            names.push(self.draw_name_beside(&names));
        }
        let newcomers = names.into_iter().zip(0u32..).map(|(name, index)| {
            let id = ReplicaId(self.state.next_id.0.saturating_add(index));
            let incarnation = self.next_incarnation(id);
            Newcomer { id, weight, name, incarnation, server: None }
        });
        Ok(newcomers.collect())
    }

    /// Refuses a name that is in use.
    pub(in crate::fleet::supervisor) fn is_free(
        &self,
        name: &ReplicaName,
    ) -> Result<(), ScaleError> {
        match self.bearer_of(name) {
            Some(other) if other == name => Err(ScaleError::Exists(name.clone())),
            Some(other) => {
                let (name, other) = (name.clone(), other.clone());
                Err(ScaleError::HostExists { name, other })
            }
            None => Ok(()),
        }
    }

    /// Refuses more replicas than there may be.
    pub(in crate::fleet::supervisor) fn has_room(&self, n: usize) -> Result<(), ScaleError> {
        let (have, most) = (self.state.desired.replicas().len(), self.state.replicas_max());
        if have.saturating_add(n) <= most {
            return Ok(());
        }
        let advice = self.state.limits.advice(self.state.desired.ring().settings());
        Err(ScaleError::NoRoom(format!(
            "{n} more than {have} replicas are too many: at most {most} fit; {advice}"
        )))
    }

    /// The name of a living replica that is the same hostname. One that is on its way out does not
    /// count: its container is removed when the name is used again.
    fn bearer_of(&self, name: &ReplicaName) -> Option<&ReplicaName> {
        let instances = self.state.instances.iter();
        let living = instances.filter(|(id, _)| self.state.is_desired(id.replica));
        let living = living.map(|(_, instance)| &instance.name);
        let committed = self.state.desired.replicas().iter().map(|replica| &replica.name);
        let same = |other: &&ReplicaName| other.is_same_host(name);
        // The exact one first: its refusal is the plainer one.
        let mut all = committed.chain(living).filter(same).peekable();
        let first = all.peek().copied();
        all.find(|other| *other == name).or(first)
    }

    /// A newcomer cannot join: the whole addition is given up.
    pub(in crate::fleet::supervisor) fn fail_newcomer(
        &mut self,
        id: InstanceId,
        error: Option<&StartError>,
        why: &str,
        now: Moment,
    ) {
        let Some(Operation::Adding { newcomers, named, stage, .. }) = &mut self.state.operation
        else {
            return;
        };
        let Some(index) = newcomers.iter().position(|newcomer| newcomer.id == id.replica) else {
            return;
        };
        // Once the state is being written the commit decides; the plan starts it anew after that.
        if !matches!(stage, AddStage::Warming { .. }) {
            return;
        }
        if newcomers[index].server.is_some() {
            return;
        }
        let name = newcomers[index].name.clone();
        let error = match error {
            Some(StartError::NameTaken(_)) if index < *named => ScaleError::Foreign(name),
            _ => ScaleError::StartFailed(format!("replica '{name}' could not be started: {why}")),
        };
        self.roll_back(error, now);
    }

    pub(in crate::fleet::supervisor) fn fail_overdue(&mut self, now: Moment) {
        let Some(Operation::Adding { newcomers, .. }) = &self.state.operation else {
            return;
        };
        let needed = self.state.limits.probe_passes;
        let late = newcomers.iter().find(|newcomer| {
            !of_replica(&self.state.instances, newcomer.id).any(|(_, i)| i.is_ready(needed))
        });
        let Some(late) = late else { return };
        let why = match of_replica(&self.state.instances, late.id).next_back() {
            Some((_, instance)) => self.not_passed(instance),
            None => "could not be started in time".to_owned(),
        };
        let error = ScaleError::StartFailed(format!("replica '{}' {why}", late.name));
        self.roll_back(error, now);
    }

    pub(in crate::fleet::supervisor) fn roll_back(&mut self, error: ScaleError, now: Moment) {
        if let Some(Operation::Adding { stage, .. }) = &mut self.state.operation {
            let deadline = now + ROLL_BACK_DEADLINE;
            *stage = AddStage::RollingBack { error: error.clone(), deadline };
            self.note(Note::RolledBack { error: error.to_string() });
        }
    }
}
