//! The request of a heartbeat, and the responses that pass.

use http::Method;

use super::{Checked, Options, wrong};
use crate::control::{
    prober::{EXPECTED_MAX, HttpCheck, Prober},
    statuses::{Statuses, StatusesError},
};

/// Methods whose requests need no body.
const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS];

pub(super) fn prober_of(options: &Options) -> Checked<Prober> {
    let path = options.heartbeat_path.as_deref().unwrap_or("/heartbeat");
    if path.is_empty() {
        // Without an HTTP request these settings would have no effect.
        let needless = [
            ("heartbeat_method", given(&options.heartbeat_method)),
            ("heartbeat_status", given(&options.heartbeat_status)),
            ("heartbeat_body", given(&options.heartbeat_body)),
        ];
        return match needless.into_iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => {
                wrong(key, "`heartbeat_path` is empty: a TCP connection has no answer to look at")
            }
            None => Ok(Prober::tcp()),
        };
    }
    let check = HttpCheck::get(path).or_else(|why| wrong("heartbeat_path", why))?;
    let (method, statuses) = (method_of(options)?, statuses_of(options)?);
    let body = body_of(options, &method)?;
    Ok(Prober::http(HttpCheck { method, statuses, body, ..check }))
}

/// An empty text counts as not set, because Compose files produce empty texts.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn method_of(options: &Options) -> Checked<Method> {
    let Some(name) = given(&options.heartbeat_method) else { return Ok(Method::GET) };
    let method = METHODS.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(name));
    method.map_or_else(
        || {
            let allowed = METHODS.map(|method| method.to_string()).join(", ");
            wrong("heartbeat_method", format!("'{name}' is not one of {allowed}"))
        },
        Ok,
    )
}

fn statuses_of(options: &Options) -> Checked<Statuses> {
    let Some(text) = given(&options.heartbeat_status) else { return Ok(Statuses::default()) };
    text.parse().or_else(|error: StatusesError| wrong("heartbeat_status", error.to_string()))
}

fn body_of(options: &Options, method: &Method) -> Checked<Option<Box<str>>> {
    match given(&options.heartbeat_body) {
        Some(_) if method == Method::HEAD => {
            wrong("heartbeat_body", "an answer to HEAD has no body; choose another method")
        }
        Some(text) if text.len() > EXPECTED_MAX => {
            wrong("heartbeat_body", format!("must be {EXPECTED_MAX} bytes at most"))
        }
        text => Ok(text.map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let options: Options = toml::from_str(text).map_err(|error| error.to_string())?;
        let prober = prober_of(&options).map_err(|error| error.to_string())?;
        Ok(format!("{prober:?}"))
    }

    #[test]
    fn the_settings_of_a_heartbeat_are_read() {
        let usual = read("").unwrap();
        for same in [
            "heartbeat_path = \"/heartbeat\"",
            "heartbeat_method = \"get\"",
            "heartbeat_method = \"\"\nheartbeat_status = \"\"\nheartbeat_body = \"\"",
            "heartbeat_status = \"200-399\"",
        ] {
            assert_eq!(read(same).unwrap(), usual, "{same}");
        }
        let own = "heartbeat_path = \"/h\"\nheartbeat_method = \"POST\"\nheartbeat_status = \"2xx\"\nheartbeat_body = \"ok\"";
        let own = read(own).unwrap();
        for part in ["POST", "/h", "200..=299", "\"ok\""] {
            assert!(own.contains(part), "{part}: {own}");
        }
        assert_eq!(read("heartbeat_path = \"\"").unwrap(), format!("{:?}", Prober::tcp()));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        let long = format!("heartbeat_body = \"{}\"", "x".repeat(EXPECTED_MAX + 1));
        for (text, why) in [
            ("heartbeat_path = \"x\"", "`heartbeat_path`: 'x' is not a path"),
            ("heartbeat_method = \"PUT\"", "`heartbeat_method`: 'PUT' is not one of GET, HEAD,"),
            ("heartbeat_status = \"ok\"", "`heartbeat_status`: 'ok' is not a status like 200"),
            (
                "heartbeat_method = \"HEAD\"\nheartbeat_body = \"ok\"",
                "`heartbeat_body`: an answer to HEAD has no body",
            ),
            (&long, "`heartbeat_body`: must be 1024 bytes at most"),
            (
                "heartbeat_path = \"\"\nheartbeat_status = \"200\"",
                "`heartbeat_status`: `heartbeat_path` is empty",
            ),
            (
                "heartbeat_path = \"\"\nheartbeat_body = \"ok\"",
                "`heartbeat_body`: `heartbeat_path` is empty",
            ),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
    }
}
