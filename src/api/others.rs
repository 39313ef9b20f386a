//! The statistics of all processes of a fleet: the one that supervises asks every live balancer for
//! what it has counted, and adds that to its own.

use std::{sync::Arc, time::Duration};

use axum::http::Method;
use futures_util::future::join_all;
use ringmaster_core::roles::acknowledgements::Report;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    peers::{self, Peers, Unproven},
    process_wire,
    request::shortened,
    statistics::{Counted, Snapshot, Statistics},
};
use crate::control::roles::{Mode, Roles};

/// How long all of them together may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// Requests that are under way at once, for all who ask.
const ASKED_MAX: usize = 64;
/// Processes that are named; of more only how many.
const NAMED_MAX: usize = 20;

/// The fleet's other processes, as far as their statistics go.
pub struct Others {
    roles: Arc<Roles>,
    peers: Peers,
    turns: Arc<Semaphore>,
}

/// What the others said, and who said nothing.
#[derive(Debug, Default, PartialEq)]
struct Gathered {
    counted: Counted,
    /// Each in a sentence.
    missing: Vec<String>,
}

impl Gathered {
    fn of(answers: impl IntoIterator<Item = Result<Counted, String>>) -> Self {
        let mut gathered = Self::default();
        let mut more = 0;
        for answer in answers {
            match answer {
                Ok(counted) => gathered.counted.merge(&counted),
                Err(why) if gathered.missing.len() < NAMED_MAX => gathered.missing.push(why),
                Err(_) => more += 1,
            }
        }
        if more > 0 {
            gathered.missing.push(format!("and {more} more"));
        }
        gathered
    }
}

impl Others {
    /// Those that a process shares its fleet with, by the way to them.
    pub fn new(roles: Arc<Roles>, peers: Peers) -> Self {
        Self { roles, peers, turns: Arc::new(Semaphore::new(ASKED_MAX)) }
    }

    /// What all processes have counted since the last reset; `own`: the part of this one.
    pub(super) async fn snapshot(&self, own: &Statistics) -> Snapshot {
        let Gathered { mut counted, missing } =
            self.ask_all(&Method::GET, process_wire::STATISTICS).await;
        counted.merge(&own.since_reset());
        Snapshot::of(&counted, missing)
    }

    /// Has all processes begin anew, if all can be reached.
    ///
    /// # Errors
    /// Which process was not reset, in a sentence that says whether others were.
    pub(super) async fn reset(&self, own: &Statistics) -> Result<(), String> {
        let Gathered { missing, .. } = self.ask_all(&Method::GET, process_wire::STATISTICS).await;
        if !missing.is_empty() {
            return Err(format!("nothing was reset: {}", missing.join("; ")));
        }
        own.reset();
        let Gathered { missing, .. } = self.ask_all(&Method::POST, process_wire::RESET).await;
        match missing.is_empty() {
            true => Ok(()),
            false => {
                Err(format!("not all statistics were reset, so try again: {}", missing.join("; ")))
            }
        }
    }

    async fn ask_all(&self, method: &Method, path: &'static str) -> Gathered {
        let deadline = Instant::now() + DEADLINE;
        let term = match &*self.roles.mode().borrow() {
            Mode::Leading(term) => term.clone(),
            Mode::Following => {
                let why = "this process does not supervise the fleet any more; try again";
                return Gathered::of([Err(why.to_owned())]);
            }
        };
        let me = &self.roles.me().id;
        let live = term.balancers().into_iter().filter(|view| view.is_live);
        let others = live.map(|view| view.known.report).filter(|report| &report.balancer != me);
        let answers = join_all(others.map(|report| self.ask(report, method, path, deadline))).await;
        let unheard = (!term.hears_all()).then(|| {
            Err("it is not known yet which other processes carry traffic; try again".to_owned())
        });
        Gathered::of(unheard.into_iter().chain(answers))
    }

    async fn ask(
        &self,
        report: Report,
        method: &Method,
        path: &'static str,
        deadline: Instant,
    ) -> Result<Counted, String> {
        let asked = async {
            // It is never closed.
            let _turn = self.turns.acquire().await;
            self.ask_one(&report, method, path).await
        };
        let late = || format!("there is no answer within {DEADLINE:?}");
        let answer = timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(late()));
        answer.map_err(|why| format!("the balancer {}: {why}", shortened(&report.balancer.0)))
    }

    async fn ask_one(
        &self,
        report: &Report,
        method: &Method,
        path: &'static str,
    ) -> Result<Counted, String> {
        let process = report.process().ok_or(NO_PLACE)?;
        self.peers.check(&process).map_err(|unproven| match unproven {
            Unproven::NoPlace => NO_PLACE,
            Unproven::Stranger => {
                "its report was not written with the `admin_token` of this process, so nothing is sent there"
            }
        })?;
        if self.peers.is_unproven_elsewhere(&process) {
            return Err("without an `admin_token` only this machine is asked".to_owned());
        }
        let (name, value) = process_wire::meant(&process.id.0).ok_or(NO_PLACE)?;
        let asked = self.peers.request(&process, method, path).header(name, value);
        let mut answer = asked.send().await.map_err(peers::why)?;
        let (status, body) =
            (answer.status(), peers::body(&mut answer, process_wire::ANSWER_MAX).await?);
        match status.is_success() {
            true => process_wire::read(&body),
            false => {
                let body = String::from_utf8_lossy(&body);
                Err(format!("at {} the answer is {status}: {}", process.admin, shortened(&body)))
            }
        }
    }
}

const NO_PLACE: &str = "its report names no address of its admin port, as one of an older version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up_and_the_first_of_the_others_are_named() {
        let one = Counted { unanswered: 2, ..Counted::default() };
        let gathered = Gathered::of([Ok(one.clone()), Err("a".to_owned()), Ok(one)]);
        assert_eq!(gathered.counted.unanswered, 4);
        assert_eq!(gathered.missing, ["a"]);
        let many = (0..NAMED_MAX + 3).map(|number| Err(number.to_string()));
        let Gathered { counted, missing } = Gathered::of(many);
        assert_eq!(counted, Counted::default());
        assert_eq!((missing.len(), missing[0].as_str()), (NAMED_MAX + 1, "0"));
        assert_eq!(missing.last().map(String::as_str), Some("and 3 more"));
    }
}
