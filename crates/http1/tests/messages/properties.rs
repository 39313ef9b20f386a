//! What holds for messages that are nearly right.

use proptest::prelude::*;
use ringmaster_http1::{
    Limits, Method,
    framing::Asked,
    fuzzing::{http1_chunks, http1_edits, http1_framing, http1_request_head, http1_response_head},
};

use crate::support::{
    End,
    grammar::{at_least, body, damaged, damages, pick, requests, responses},
    pass_request, pass_response,
};

/// Names that something depends on, so that each of them is tried often.
fn edited_name() -> impl Strategy<Value = String> {
    let telling = pick(&[
        "Content-Length",
        "content_length",
        "Transfer-Encoding",
        "Connection",
        "keep-alive",
        "TE",
        "Host",
        "Expect",
        "Upgrade",
        "X-Request-ID",
        "x_request_id",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-A",
        "",
    ]);
    prop_oneof![3 => telling, 1 => "[a-zA-Z-]{0,8}"]
}

fn edited_value() -> impl Strategy<Value = String> {
    let telling = pick(&["3", "chunked", "close", "h2c", "100-continue", "trailers", "h:80", "a"]);
    prop_oneof![1 => telling, 1 => "[ -~\r\n]{0,8}"]
}

proptest! {
    #![proptest_config(at_least(1500))]

    /// What goes on of a request is, in all its bytes, the same request again; and how it was cut
    /// changes nothing.
    #[test]
    fn requests_go_on_as_they_were_read(
        message in requests(),
        damages in damages(),
        cuts in prop::collection::vec(0..400_usize, 0..5),
    ) {
        let bytes = damaged(&message, &damages);
        http1_request_head(&bytes);
        let limits = Limits::default();
        let passed = pass_request(&bytes, &[], &limits);
        prop_assert_eq!(&pass_request(&bytes, &cuts, &limits), &passed);
        let each: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&pass_request(&bytes, &each, &limits), &passed);
        if passed.end == End::Done {
            let written = passed.written();
            let again = pass_request(&written, &[], &limits);
            prop_assert_eq!((again.end, again.consumed), (End::Done, written.len()));
            prop_assert_eq!((&again.head, &again.body), (&passed.head, &passed.body));
            prop_assert_eq!(&again.trailers, &passed.trailers);
            // Trailers may be dropped, so they are written only here.
            prop_assert_eq!(again.written(), written);
        }
    }

    #[test]
    fn responses_go_on_as_they_were_read(
        message in responses(),
        damages in damages(),
        cuts in prop::collection::vec(0..400_usize, 0..5),
        script in any::<u8>(),
    ) {
        let bytes = damaged(&message, &damages);
        http1_response_head(&[&[script], &bytes[..]].concat());
        let method = if script & 1 == 1 { Method::Head } else { Method::Get };
        let asked = Asked { method, upgrade: (script & 2 == 2).then_some(&b"websocket"[..]) };
        let limits = Limits::default();
        let passed = pass_response(&bytes, &[], &asked, &limits);
        prop_assert_eq!(&pass_response(&bytes, &cuts, &asked, &limits), &passed);
        if passed.end == End::Done {
            let written = passed.written();
            let again = pass_response(&written, &[], &asked, &limits);
            prop_assert_eq!((again.end, again.consumed), (End::Done, written.len()));
            prop_assert_eq!((&again.head, &again.body), (&passed.head, &passed.body));
        }
    }

    #[test]
    fn chunks_are_read_as_they_were_written(
        body in body(),
        damages in damages(),
        script in any::<[u8; 4]>(),
    ) {
        http1_chunks(&[&script[..], &damaged(&body, &damages)].concat());
    }

    #[test]
    fn framing_follows_its_table(
        kind in any::<[u8; 3]>(),
        lines in prop::collection::vec(
            pick(&["c3", "c03", "c4", "c", "c+3", "c3,3", "tchunked", "tCHUNKED", "t", "tgzip", "tx, chunked"]),
            0..4,
        ),
    ) {
        http1_framing(&[&kind[..], lines.join("\n").as_bytes()].concat());
    }

    #[test]
    fn edits_write_what_they_say(
        message in requests(),
        edits in prop::collection::vec((1..8_u8, 0..12_u8, edited_name(), edited_value()), 0..6),
    ) {
        let mut data = message.into_bytes();
        for (what, line, name, value) in edits {
            data.extend_from_slice(&[0, what, line]);
            data.extend_from_slice(format!("{name}={value}").as_bytes());
        }
        http1_edits(&data);
    }
}
