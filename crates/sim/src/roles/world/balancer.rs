//! The occurrences of a simulated balancer.

use crate::roles::{
    balancer::Balancer,
    occurrence::{Call, Occurrence, StoreMessage, Who},
    world::World,
};
use ringmaster_core::{
    fleet::ids::{InstanceId, Moment},
    roles::{
        acknowledgements::Report,
        publication::{Followed, Follower, Publication},
    },
};

impl World {
    pub(super) fn begin_balancer(&mut self, index: usize, keeps_table: bool) {
        let balancer = &mut self.balancers[index];
        let cached = balancer.routing.clone().filter(|_| keeps_table);
        *balancer = Balancer {
            epoch: balancer.epoch + 1,
            is_cut: balancer.is_cut,
            follower: Follower::new(cached.clone()),
            routing: cached,
            ..Balancer::new()
        };
        let who = Who::Balancer(index, balancer.epoch);
        for occurrence in
            [Occurrence::Reports(who), Occurrence::Reads(who), Occurrence::ClientRequest(who)]
        {
            let delay = self.draw(0, 300);
            self.after(delay, occurrence);
        }
    }

    pub(super) fn balancer_receives(&mut self, index: usize, message: StoreMessage) {
        let who = Who::Balancer(index, self.balancers[index].epoch);
        let follower = &mut self.balancers[index].follower;
        let followed = match message {
            StoreMessage::Table(Some(table)) => follower.take_whole(*table),
            StoreMessage::Changed(_, Some(delta)) => follower.take_delta(&delta),
            StoreMessage::Changed(version, None) => {
                let held = follower.held().map(Publication::version).unwrap_or_default();
                if version > held { Followed::ReadWhole } else { Followed::Old }
            }
            _ => Followed::Old,
        };
        match followed {
            Followed::Old => {}
            Followed::ReadWhole => {
                self.report.whole_reads += 1;
                self.call(who, Call::ReadTable);
            }
            Followed::Taken => {
                let Some(held) = self.balancers[index].follower.held().cloned() else { return };
                let lag = if self.chance(self.trouble) { 800 } else { 20 };
                let delay = self.draw(0, lag);
                self.after(delay, Occurrence::WorkersLoaded(who, Box::new(held)));
            }
        }
    }

    pub(super) fn workers_loaded(&mut self, index: usize, held: Publication) -> Result<(), String> {
        let balancer = &mut self.balancers[index];
        if held.version() <= balancer.version() {
            return Ok(());
        }
        self.checker.acknowledged(&held)?;
        balancer.routing = Some(held);
        self.send_report(index);
        Ok(())
    }

    pub(super) fn send_report(&mut self, index: usize) {
        let balancer = &mut self.balancers[index];
        balancer.reports += 1;
        let digest = balancer.routing.as_ref().map(|routing| routing.table().ring.digest());
        let report = Report {
            balancer: balancer.id(index),
            number: balancer.reports,
            acknowledged: balancer.version(),
            digest: digest.unwrap_or_default(),
            in_flight: balancer.open.clone(),
            admin: None,
            authenticator: None,
        };
        let who = Who::Balancer(index, balancer.epoch);
        self.call(who, Call::Report(report));
    }

    /// A client sends a request, which stays open for a while.
    pub(super) fn client_requests(&mut self, index: usize) {
        let balancer = &self.balancers[index];
        let who = Who::Balancer(index, balancer.epoch);
        let targets =
            balancer.routing.iter().flat_map(|routing| &routing.table().targets).flatten();
        let instances: Vec<InstanceId> = targets.map(|target| target.instance).collect();
        if let Some(&instance) = self.choose(&instances) {
            *self.balancers[index].open.entry(instance).or_default() += 1;
            let takes = self.draw(1, 2_500);
            self.after(takes, Occurrence::ClientResponse(who, instance));
        }
        let next = self.draw(50, 700);
        self.after(next, Occurrence::ClientRequest(who));
    }

    pub(super) fn client_receives(&mut self, index: usize, instance: InstanceId) {
        let open = &mut self.balancers[index].open;
        let left = open.get(&instance).map_or(0, |open| open - 1);
        match left {
            0 => drop(open.remove(&instance)),
            _ => drop(open.insert(instance, left)),
        }
    }

    /// The running balancers, which the store sends new tables.
    pub(super) fn balancers_known(&self) -> Vec<Who> {
        let running = self.balancers.iter().enumerate().filter(|(_, balancer)| balancer.is_alive);
        running.map(|(index, balancer)| Who::Balancer(index, balancer.epoch)).collect()
    }

    /// Checks that all balancers route by the newest table.
    pub(super) fn balancers_agree(
        &self,
        published: &Publication,
        now: Moment,
    ) -> Result<(), String> {
        for (index, balancer) in self.balancers.iter().enumerate() {
            if balancer.routing.as_ref() != Some(published) {
                return Err(format!(
                    "balancer {index} routes by {:?} and not by {:?} at {}",
                    balancer.version(),
                    published.version(),
                    now.0
                ));
            }
        }
        Ok(())
    }
}
