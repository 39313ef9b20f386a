//! Where a load goes: a URL, resolved once.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use http::Uri;

/// The address of an HTTP server, and the name it is called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What goes into the `Host` header.
    pub authority: String,
    /// Where connections go.
    pub address: SocketAddr,
}

impl Target {
    /// Resolves `http://host[:port]`.
    ///
    /// # Errors
    /// When the URL is not of this form, or its host has no address.
    pub async fn resolve(url: &str) -> Result<Target> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{url:?} does not start with http://");
        }
        if uri.path() != "/" || uri.query().is_some() {
            bail!("{url:?} has a path; give the path with --path");
        }
        let authority = uri.authority().with_context(|| format!("{url:?} has no host"))?;
        let place = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let address = tokio::net::lookup_host(&place)
            .await
            .with_context(|| format!("cannot resolve {place}"))?
            .next()
            .with_context(|| format!("{place} has no address"))?;
        Ok(Target { authority: authority.to_string(), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_becomes_an_address() {
        let target = Target::resolve("http://127.0.0.1:5000").await.unwrap();
        assert_eq!(target.authority, "127.0.0.1:5000");
        assert_eq!(target.address, "127.0.0.1:5000".parse().unwrap());
        let target = Target::resolve("http://[::1]/").await.unwrap();
        assert_eq!(target.address, "[::1]:80".parse().unwrap());
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_used_is_refused_with_the_reason() {
        for (url, reason) in [
            ("https://localhost", "does not start with http://"),
            ("localhost:5000", "does not start with http://"),
            ("http://localhost/home", "--path"),
            ("", "is not a URL"),
        ] {
            let error = Target::resolve(url).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
