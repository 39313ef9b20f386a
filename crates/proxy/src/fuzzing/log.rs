//! What the access log says of a request.

use std::sync::{Arc, mpsc::sync_channel};

use http::{HeaderValue, Method, Request, Uri};

use super::lines_and_rest;
use crate::access_log::{AccessLog, Entry, LogFormat, TARGET_MAX};

/// A method and a target. Their line is one line, of which a terminal executes nothing, which a
/// reader of its format takes apart in one way only, and which is not much longer than they are.
pub fn access_log(data: &[u8]) {
    let (lines, _) = lines_and_rest(data);
    let [method, target, ..] = lines[..] else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(target)) else { return };
    let asked = uri.path_and_query().map_or("*", |target| target.as_str());
    let shown: String = asked.chars().take(TARGET_MAX).collect();
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();

    let line = line(LogFormat::Json, &request);
    let object: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(object["method"], method.as_str());
    let printed = object["target"].as_str().expect("it is text").to_owned();
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    assert!(printed.bytes().all(is_plain), "{printed}");
    if shown.bytes().all(is_plain) {
        assert_eq!(printed, shown, "nothing to escape");
    }

    let line = self::line(LogFormat::Common, &request);
    let [_, asked, answered] = line.split('"').collect::<Vec<_>>()[..] else {
        panic!("not two quotes: {line}")
    };
    assert_eq!(answered, " 200 0");
    let [logged, target, "HTTP/1.1"] = asked.split(' ').collect::<Vec<_>>()[..] else {
        panic!("not three words: {line}")
    };
    assert_eq!(logged, method.as_str());
    assert_eq!(target, printed.replace('"', "%22"));
    assert!(target.len() <= 3 * shown.len(), "each byte is three at most");
}

/// A line without its end.
fn line(format: LogFormat, request: &Request<()>) -> String {
    let reopen = Arc::default();
    let log = AccessLog { lines: sync_channel(0).0, format, sample: 1.0, reopen };
    let client = HeaderValue::from_static("10.0.0.9");
    let entry = Entry::begin(Arc::new(log), Arc::default(), client, request);
    let line = entry.line();
    let line = line.strip_suffix('\n').expect("it ends").to_owned();
    assert!(!line.contains(char::is_control), "{}", line.escape_debug());
    line
}
