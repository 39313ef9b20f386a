//! What messages may have, as the codec takes it.

use ringmaster_http1::{Limits, chunk};

use super::super::config::ProxyConfig;

/// What a head may have.
pub(super) fn limits(config: &ProxyConfig) -> Limits {
    Limits {
        head_bytes_max: u16::try_from(config.header_bytes_max).unwrap_or(u16::MAX),
        fields_max: u8::try_from(config.headers_max).unwrap_or(u8::MAX),
        target_bytes_max: u16::try_from(config.uri_max).unwrap_or(u16::MAX),
    }
}

/// What a body may have.
pub(super) fn body_limits(config: &ProxyConfig, body_max: Option<u64>) -> chunk::Limits {
    let Limits { head_bytes_max, fields_max, .. } = limits(config);
    chunk::Limits {
        body_max: body_max.unwrap_or(u64::MAX),
        trailer_bytes_max: head_bytes_max,
        trailers_max: fields_max,
    }
}
