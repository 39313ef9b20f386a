//! What a running balancer says about itself.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// A client of one balancer's API.
#[derive(Debug, Clone)]
pub struct Balancer {
    client: reqwest::Client,
    url: String,
}

/// The ring as `GET /api/ring` shows it; only what the experiments need.
#[derive(Debug, Clone, Deserialize)]
pub struct Ring {
    /// The replicas with the part of all slots that each one owns.
    pub replicas: Vec<RingReplica>,
}

/// One replica on the ring.
#[derive(Debug, Clone, Deserialize)]
pub struct RingReplica {
    /// Its name.
    pub name: String,
    /// The part of all slots it owns, from 0 to 1.
    pub share: f64,
}

#[derive(Deserialize)]
struct RepAnswer {
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
    /// When the balancer does not answer, or not with a list.
    pub async fn replicas(&self) -> Result<Vec<String>> {
        Ok(self.get::<RepAnswer>("/rep").await?.message.replicas)
    }

    /// The ring (`GET /api/ring`, admin port only).
    ///
    /// # Errors
    /// When the balancer does not answer, or not with a ring.
    pub async fn ring(&self) -> Result<Ring> {
        self.get("/api/ring").await
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
