//! How a process of a shared fleet tells another one what it has counted: paths, the header that
//! names the process, and JSON.

use axum::{
    Json,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use ringmaster_core::fleet::ids::ReplicaId;
use ringmaster_proxy::{HistogramTotals, ReplicaTotals};
use serde::{Deserialize, Serialize};

use super::statistics::Counted;

/// Answered by each process itself, and by none for another.
pub(super) const STATISTICS: &str = "/api/process/statistics";
/// The same, and it begins anew.
pub(super) const RESET: &str = "/api/process/statistics/reset";
/// Which process is meant. An address may lead to another one: from another machine, or after a restart.
pub(super) const MEANT: HeaderName = HeaderName::from_static("ringmaster-process");

/// The most bytes of such an answer: all replicas of the largest fleet, each with its largest numbers.
pub(super) const ANSWER_MAX: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
struct CountedWire {
    total: ServedWire,
    unanswered: u64,
    servers: Vec<(u32, ServedWire)>,
}

#[derive(Serialize, Deserialize)]
struct ServedWire {
    errors: u64,
    micros: u64,
    classes: Vec<u64>,
}

impl ServedWire {
    fn of(served: &ReplicaTotals) -> Self {
        let HistogramTotals { classes, micros } = served.times;
        Self { errors: served.errors, micros, classes: classes.to_vec() }
    }

    fn read(self) -> Result<ReplicaTotals, String> {
        let Self { errors, micros, classes } = self;
        let n = classes.len();
        let classes = classes.try_into().map_err(|_| {
            format!("it counts times in {n} classes, as a program of another version does")
        })?;
        Ok(ReplicaTotals { errors, times: HistogramTotals { classes, micros } })
    }
}

/// The response of a process.
pub(super) fn text(counted: &Counted) -> Response {
    let servers = counted.servers.iter();
    Json(CountedWire {
        total: ServedWire::of(&counted.total),
        unanswered: counted.unanswered,
        servers: servers.map(|(id, served)| (id.0, ServedWire::of(served))).collect(),
    })
    .into_response()
}

/// Reads the answer of a process.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(body: &[u8]) -> Result<Counted, String> {
    let wire: CountedWire = serde_json::from_slice(body)
        .map_err(|error| format!("its answer cannot be understood: {error}"))?;
    let mut counted =
        Counted { total: wire.total.read()?, unanswered: wire.unanswered, ..Counted::default() };
    for (replica, served) in wire.servers {
        counted.servers.entry(ReplicaId(replica)).or_default().merge(&served.read()?);
    }
    Ok(counted)
}

/// The header that names the process that is meant; `None`: no process is called so.
pub(super) fn meant(process: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((MEANT, HeaderValue::from_str(process).ok()?))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn served(errors: u64, first: u64, micros: u64) -> ReplicaTotals {
        let mut times = HistogramTotals { micros, ..HistogramTotals::default() };
        times.classes[0] = first;
        ReplicaTotals { errors, times }
    }

    #[tokio::test]
    async fn what_was_counted_is_read_as_it_was_written() {
        let counted = Counted {
            total: served(3, u64::MAX, 1 << 60),
            unanswered: 7,
            servers: [(ReplicaId(4), served(1, 2, 3)), (ReplicaId(9), served(0, 1, 0))].into(),
        };
        let body = text(&counted).into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read(&body), Ok(counted));
        let nothing = text(&Counted::default()).into_body().collect().await.unwrap().to_bytes();
        assert_eq!(read(&nothing), Ok(Counted::default()));
    }

    #[test]
    fn what_is_no_such_answer_is_refused_and_large_numbers_do_no_harm() {
        for odd in ["", "{}", "[]", r#"{"total":{},"unanswered":0,"servers":[]}"#] {
            let why = read(odd.as_bytes()).unwrap_err();
            assert!(why.starts_with("its answer cannot be understood"), "{odd}: {why}");
        }
        let with = |classes: usize, servers: &str| {
            let classes = vec![u64::MAX.to_string(); classes].join(",");
            let one = format!(r#"{{"errors":{0},"micros":{0},"classes":[{classes}]}}"#, u64::MAX);
            let servers = servers.replace("ONE", &one);
            read(format!(r#"{{"total":{one},"unanswered":1,"servers":[{servers}]}}"#).as_bytes())
        };
        let why = with(3, "").unwrap_err();
        assert!(why.starts_with("it counts times in 3 classes"), "{why}");
        let mut most = with(19, "[1,ONE],[1,ONE]").unwrap();
        let other = most.clone();
        most.merge(&other);
        let served = most.servers[&ReplicaId(1)];
        assert_eq!((served.requests(), served.errors), (u64::MAX, u64::MAX));
        assert!(served.times.percentile(0.5).is_some() && served.times.quantile(0.5).is_some());
    }
}
