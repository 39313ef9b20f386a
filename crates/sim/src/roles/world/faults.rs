//! The faults between supervisors, store, balancers and engine, and the commands of users.

use ringmaster_core::fleet::{
    command::{CommandId, Request, ScaleCommand},
    ids::{Handle, Moment, ReplicaName},
    message::{Event, FoundState, Sighting},
};

use crate::engine::Behaviour;
use crate::roles::{
    occurrence::{Fault, Occurrence, Who},
    world::World,
};

impl World {
    pub(super) fn schedule_faults(&mut self) {
        for _ in 0..self.scenario.faults {
            let fault = self.draw_fault();
            let moment = Moment(self.draw(2_000, self.scenario.length_ms));
            self.at(moment, Occurrence::Fault(fault));
            // Faults often come in groups.
            if self.chance(0.4) {
                let fault = self.draw_fault();
                let soon = Moment(moment.0 + self.draw(0, 2_500));
                self.at(soon, Occurrence::Fault(fault));
            }
        }
    }

    fn draw_fault(&mut self) -> Fault {
        let supervisor = self.draw(0, self.parties.len() as u64) as usize;
        let balancer = self.draw(0, self.balancers.len() as u64) as usize;
        match self.draw(0, 30) {
            0..=2 => Fault::SupervisorDies(supervisor),
            3..=4 => Fault::SupervisorFreezes(supervisor),
            5 => Fault::SupervisorEnds(supervisor),
            6..=8 => Fault::SupervisorCut(supervisor, true),
            9..=10 => Fault::BalancerDies(balancer),
            11..=12 => Fault::BalancerCut(balancer, true),
            13 => Fault::StoreEmptied,
            14..=15 => Fault::StoreFreezes,
            16 => Fault::StoreAway,
            17 => Fault::StoreRestartsEmpty,
            18..=20 => Fault::InstanceDies,
            21 => Fault::InstanceHangs,
            22 => Fault::InstanceRecovers,
            23 => Fault::TroubleRises,
            24..=25 => Fault::TroubleFalls,
            26..=27 => Fault::Adds,
            _ => Fault::Removes,
        }
    }

    pub(super) fn inflict(&mut self, fault: Fault) -> Result<(), String> {
        self.remember(format!("!! {fault:?}"));
        let until = Moment(self.now.0 + self.draw(100, 12_000));
        match fault {
            Fault::SupervisorDies(index) if self.parties[index].is_alive => {
                self.parties[index].is_alive = false;
                self.parties[index].term = None;
                self.at(until, Occurrence::Fault(Fault::SupervisorReturns(index)));
            }
            Fault::SupervisorReturns(index) => self.begin_party(index),
            Fault::SupervisorFreezes(index) => self.parties[index].frozen_until = until,
            Fault::SupervisorEnds(index) if self.parties[index].is_alive => {
                let now = self.parties[index].clock.at(self.now);
                let step = self.parties[index].lease.release(now);
                self.lease_stepped(index, step)?;
                self.parties[index].is_alive = false;
                self.at(until, Occurrence::Fault(Fault::SupervisorReturns(index)));
            }
            Fault::SupervisorCut(index, is_cut) => {
                self.parties[index].is_cut = is_cut;
                if is_cut {
                    self.at(until, Occurrence::Fault(Fault::SupervisorCut(index, false)));
                }
            }
            Fault::BalancerDies(index) if self.balancers[index].is_alive => {
                self.balancers[index].is_alive = false;
                self.at(until, Occurrence::Fault(Fault::BalancerReturns(index)));
            }
            Fault::BalancerReturns(index) => {
                let keeps_table = self.chance(0.5);
                self.begin_balancer(index, keeps_table);
            }
            Fault::BalancerCut(index, is_cut) => {
                self.balancers[index].is_cut = is_cut;
                if is_cut {
                    self.at(until, Occurrence::Fault(Fault::BalancerCut(index, false)));
                }
            }
            Fault::StoreEmptied => self.store.empty(self.now),
            Fault::StoreFreezes => self.store.frozen_until = until,
            Fault::StoreAway => self.store.away_until = until,
            Fault::StoreRestartsEmpty => {
                self.store.empty(self.now);
                self.store.away_until = until;
            }
            Fault::TroubleRises => self.trouble = 0.3,
            Fault::TroubleFalls => self.trouble = 0.03,
            Fault::Adds | Fault::Removes => self.user_asks(fault)?,
            Fault::InstanceDies | Fault::InstanceHangs | Fault::InstanceRecovers => {
                self.hit_instance(fault);
            }
            _ => {}
        }
        Ok(())
    }

    fn hit_instance(&mut self, fault: Fault) {
        let handles: Vec<Handle> = self.engine.running();
        let Some(handle) = self.choose(&handles).cloned() else { return };
        let now = self.now;
        let Some(container) = self.engine.containers.get_mut(&handle) else { return };
        match fault {
            Fault::InstanceHangs => container.behaviour = Behaviour::Hangs,
            Fault::InstanceRecovers => container.behaviour = Behaviour::Good { from: now },
            _ => {
                container.state = FoundState::Exited { exit_code: Some(137) };
                let instance = container.identity.instance;
                self.engine_says(instance, handle, Sighting::Died { exit_code: Some(137) });
            }
        }
    }

    fn user_asks(&mut self, fault: Fault) -> Result<(), String> {
        let acting = self.parties.iter().position(|party| party.may_act(self.now).is_some());
        let Some(index) = acting else { return Ok(()) };
        let core = self.parties[index].term.as_ref().and_then(|term| term.core.as_ref());
        let Some(size) = core.map(|core| core.state().desired.replicas().len()) else {
            return Ok(());
        };
        let n = self.draw(1, 3) as usize;
        // Few, so that a late start meets the next bearer of its name.
        let name = ReplicaName::numbered(self.draw(20, 22) as u32);
        let names = if self.chance(0.5) { vec![name] } else { Vec::new() };
        let command = match fault {
            Fault::Removes if size > 2 => ScaleCommand::remove(n.min(size - 1), names),
            _ if size < 8 => ScaleCommand::add(n, names, 1),
            _ => return Ok(()),
        };
        let Ok(command) = command else { return Ok(()) };
        self.commands += 1;
        let request = Request { command, dry_run: false };
        self.turn(index, Event::Scale(CommandId(self.commands), request))
    }

    /// Ends all faults.
    pub fn end_faults(&mut self) {
        self.remember("== peace".into());
        self.trouble = 0.0;
        self.engine_trouble = 0.0;
        self.faults_ended = true;
        let now = self.now;
        self.store.frozen_until = now;
        self.store.away_until = now;
        for index in 0..self.parties.len() {
            self.parties[index].is_cut = false;
            self.parties[index].frozen_until = now;
            if !self.parties[index].is_alive {
                self.begin_party(index);
            }
        }
        for index in 0..self.balancers.len() {
            self.balancers[index].is_cut = false;
            if !self.balancers[index].is_alive {
                self.begin_balancer(index, true);
            }
        }
        for container in self.engine.containers.values_mut() {
            container.behaviour = Behaviour::Good { from: now };
        }
    }

    pub(super) fn is_cut(&self, who: Who) -> bool {
        match who {
            Who::Supervisor(index, _) => self.parties[index].is_cut,
            Who::Balancer(index, _) => self.balancers[index].is_cut,
        }
    }
}
