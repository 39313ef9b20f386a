//! A client of a running balancer's API.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Timeout of one request.
const DEADLINE: Duration = Duration::from_secs(2);

/// A client of one balancer's API.
#[derive(Debug, Clone)]
pub struct Balancer {
    client: reqwest::Client,
    url: String,
}

/// Timeout of a scale command, which waits for all starts or for a drain.
const SCALE_DEADLINE: Duration = Duration::from_secs(60);

/// Pause between two requests for the replicas in service.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The ring as `GET /api/ring` shows it; only what the experiments need. Settings that are not
/// shown are those of the default ring.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ShownRing {
    /// How a slot finds its owner.
    pub algorithm: Option<String>,
    /// Slots of the circle or table.
    pub slots: Option<u64>,
    /// Virtual servers per unit of weight.
    pub virtual_servers: Option<u32>,
    /// How positions are chosen.
    pub placement: Option<String>,
    /// The collision rule.
    pub collision: Option<String>,
    /// The hash function of keys.
    pub hash: Option<String>,
    /// The replicas with the part of all slots that each one owns.
    pub replicas: Vec<RingReplica>,
}

/// One replica on the ring.
#[derive(Debug, Clone, Deserialize)]
pub struct RingReplica {
    /// The name of the replica, as in `/rep`.
    pub name: String,
    /// The part of all slots it owns, from 0 to 1.
    pub share: f64,
    /// The id of the replica in the ring.
    #[serde(default)]
    pub id: u32,
    /// The weight of the replica; 1 for a balancer that does not show it.
    #[serde(default = "one")]
    pub weight: u32,
    /// The slots that its virtual servers sit on.
    #[serde(default)]
    pub slots: Vec<u32>,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
struct RepResponse {
    message: RepMessage,
}

#[derive(Deserialize)]
struct RepMessage {
    replicas: Vec<String>,
}

impl Balancer {
    /// A client of the API at `url` (traffic or admin port).
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(url: &str) -> Result<Balancer> {
        let client = reqwest::Client::builder().timeout(DEADLINE).no_proxy().build()?;
        Ok(Balancer { client, url: url.trim_end_matches('/').to_owned() })
    }

    /// The replicas in service, in the order they joined (`GET /rep`).
    ///
    /// # Errors
    /// When the balancer does not respond with a list.
    pub async fn replicas(&self) -> Result<Vec<String>> {
        Ok(self.get::<RepResponse>("/rep").await?.message.replicas)
    }

    /// The ring (`GET /api/ring`, admin port only).
    ///
    /// # Errors
    /// When the balancer does not respond with a ring.
    pub async fn ring(&self) -> Result<ShownRing> {
        self.get("/api/ring").await
    }

    /// Waits until `wanted` replicas are in service: at the start they are admitted one by one.
    ///
    /// # Errors
    /// When the balancer does not respond, or they are not in service in time.
    pub async fn wait_for(&self, wanted: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let here = self.replicas().await?.len();
            if here == wanted {
                return Ok(());
            }
            if begun.elapsed() > SCALE_DEADLINE {
                bail!("{} has {here} replicas in service, not {wanted}", self.url);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Adds or removes replicas until `wanted` are in service, and returns their names.
    /// The balancer chooses which ones are removed.
    ///
    /// # Errors
    /// When the balancer refuses or does not respond in time.
    pub async fn scale_to(&self, wanted: usize) -> Result<Vec<String>> {
        let here = self.replicas().await?.len();
        let (path, number) = match wanted.cmp(&here) {
            Ordering::Equal => return self.replicas().await,
            Ordering::Greater => ("/add", wanted - here),
            Ordering::Less => ("/rm", here - wanted),
        };
        let url = format!("{}{path}", self.url);
        let request = self.client.post(&url).timeout(SCALE_DEADLINE);
        let answer = request.json(&serde_json::json!({ "n": number })).send().await;
        let answer = answer.with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("no answer from {url}"))?;
        if !status.is_success() {
            bail!("{url} answered {status}: {text}");
        }
        let names = self.replicas().await?;
        if names.len() != wanted {
            bail!("{url} left {} replicas in service, not {wanted}", names.len());
        }
        Ok(names)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.url);
        let answer =
            self.client.get(&url).send().await.with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{url} answered {status}");
        }
        answer.json().await.with_context(|| format!("{url} answered something unexpected"))
    }
}
