//! When a connection may serve another message, beside a reference: the tables of h11, whose model it
//! is, as sums of what has happened.

use proptest::prelude::*;
use ringmaster_http1::{
    Framing, Known, Version,
    connection::{Connection, Event, OutOfOrder, Side, toward_client},
    write,
};

const LENGTH: Framing = Framing::Length(3);

fn request(framing: Framing) -> Event {
    Event::Request { framing, persists: true }
}

fn response(framing: Framing) -> Event {
    Event::Response { framing, persists: true }
}

fn after(events: &[Event]) -> Connection {
    let mut connection = Connection::new();
    for event in events {
        connection.on(*event).unwrap_or_else(|error| panic!("{event:?}: {error}"));
    }
    connection
}

#[test]
fn a_connection_is_reusable_when_both_messages_are_done() {
    let mut connection = after(&[]);
    for event in
        [request(LENGTH), Event::Interim, Event::RequestEnd, response(LENGTH), Event::ResponseEnd]
    {
        assert!(!connection.is_reusable() && !connection.begin_next(), "{event:?}");
        connection.on(event).unwrap();
    }
    assert!(connection.is_reusable() && connection.begin_next());
    assert_eq!(connection, Connection::new());
    assert!(after(&[request(Framing::None), response(Framing::None)]).is_reusable());
    assert!(after(&[request(Framing::Length(0)), response(Framing::Length(0))]).is_reusable());
}

#[test]
fn each_reason_to_close_counts() {
    let closing = |framing| Event::Request { framing, persists: false };
    let none = Framing::None;
    let done = [request(none), response(none)];
    for events in [
        vec![closing(none), response(none)],
        vec![request(none), Event::Response { framing: none, persists: false }],
        vec![request(none), Event::Close, response(none)],
        vec![done[0], done[1], Event::Surplus],
        vec![done[0], done[1], Event::RequestEof],
        vec![done[0], done[1], Event::ResponseEof],
        // An early response: the rest of the request would be the next one.
        vec![request(LENGTH), response(none)],
        vec![request(LENGTH), response(none), Event::RequestFailed],
        // Its head has said that it closes, also where the rest comes after all.
        vec![request(LENGTH), response(none), Event::RequestEnd],
        vec![request(LENGTH), response(LENGTH), Event::RequestEnd, Event::ResponseEnd],
        vec![request(none), response(Framing::UntilClose), Event::ResponseEof],
        vec![request(none), Event::ResponseFailed],
        // A refusal.
        vec![Event::RequestFailed, response(none)],
        vec![response(none)],
        vec![request(none), Event::Switch],
    ] {
        let connection = after(&events);
        assert!(!connection.is_reusable(), "{events:?}: {connection:?}");
    }
    assert!(after(&[request(LENGTH), response(none)]).closes(), "the head must say it");
    assert!(!after(&[request(LENGTH), Event::RequestEnd, response(none)]).closes());
    assert!(after(&[closing(none)]).closes());
}

#[test]
fn what_cannot_happen_changes_nothing() {
    for (before, event) in [
        (vec![], Event::RequestEnd),
        (vec![], Event::Interim),
        (vec![], Event::Switch),
        (vec![request(LENGTH)], request(LENGTH)),
        (vec![request(LENGTH)], Event::Switch),
        (vec![request(LENGTH)], Event::ResponseEnd),
        (vec![request(Framing::None), response(LENGTH)], response(LENGTH)),
        (vec![request(Framing::None), response(LENGTH)], Event::Interim),
        (vec![request(Framing::None), Event::Switch], Event::Close),
        (vec![Event::RequestEof], response(LENGTH)),
        (vec![response(Framing::None)], request(LENGTH)),
    ] {
        let mut connection = after(&before);
        let unchanged = connection;
        assert_eq!(connection.on(event), Err(OutOfOrder), "{before:?}, {event:?}");
        assert_eq!(connection, unchanged);
    }
}

#[test]
fn the_end_of_a_connection_ends_only_what_ends_with_it() {
    let until_close = after(&[request(LENGTH), response(Framing::UntilClose), Event::ResponseEof]);
    assert_eq!(until_close.response(), Side::Done);
    let cut = after(&[request(LENGTH), response(LENGTH), Event::ResponseEof]);
    assert_eq!(cut.response(), Side::Failed);
    assert_eq!(after(&[request(LENGTH), Event::RequestEof]).request(), Side::Failed);
    assert_eq!(after(&[Event::RequestEof]).request(), Side::Closed);
    assert_eq!(after(&[request(Framing::None), Event::RequestEof]).request(), Side::Done);
}

#[test]
fn http_1_0_is_promised_only_what_can_be_kept() {
    use write::Connection::{Close, Keep};
    let asks = Known { persists: true, ..Known::default() };
    let silent = Known::default();
    let said = |version, known, framing| toward_client(version, known, framing, false);
    assert_eq!(said(Version::Http10, &asks, LENGTH), Keep);
    assert_eq!(said(Version::Http10, &asks, Framing::None), Keep);
    assert_eq!(said(Version::Http10, &asks, Framing::UntilClose), Close);
    assert_eq!(said(Version::Http10, &asks, Framing::Chunked), Close, "it gets none");
    assert_eq!(said(Version::Http11, &asks, Framing::UntilClose), Close);
    assert_eq!(said(Version::Http10, &silent, LENGTH), Close);
    assert_eq!(said(Version::Http11, &asks, Framing::Chunked), Keep);
    assert_eq!(said(Version::Http11, &silent, LENGTH), Close);
    assert_eq!(toward_client(Version::Http11, &asks, LENGTH, true), Close);
}

fn events() -> impl Strategy<Value = Event> {
    let framing = || {
        prop_oneof![
            Just(Framing::None),
            Just(LENGTH),
            Just(Framing::Chunked),
            Just(Framing::UntilClose)
        ]
    };
    let heads = (framing(), any::<bool>(), any::<bool>()).prop_map(|(framing, persists, asks)| {
        if asks && framing != Framing::UntilClose {
            Event::Request { framing, persists }
        } else {
            Event::Response { framing, persists }
        }
    });
    let others = prop::sample::select(vec![
        Event::RequestEnd,
        Event::ResponseEnd,
        Event::Interim,
        Event::Switch,
        Event::Surplus,
        Event::RequestEof,
        Event::ResponseEof,
        Event::RequestFailed,
        Event::ResponseFailed,
        Event::Close,
    ]);
    prop_oneof![3 => heads, 2 => Just(Event::RequestEnd), 2 => Just(Event::ResponseEnd), 2 => others]
}

proptest! {
    /// Reusable says exactly what has happened: one whole request, one whole response, and nothing
    /// that ends the connection.
    #[test]
    fn reusable_is_what_has_happened(events in prop::collection::vec(events(), 0..9)) {
        let mut connection = Connection::new();
        let mut happened = Vec::new();
        for event in events {
            let before = connection;
            match connection.on(event) {
                Ok(()) => happened.push(event),
                Err(OutOfOrder) => prop_assert_eq!(before, connection),
            }
            let count = |wanted: fn(&Event) -> bool| happened.iter().filter(|e| wanted(e)).count();
            let requests = count(|e| matches!(e, Event::Request { .. }));
            let responses = count(|e| matches!(e, Event::Response { .. }));
            let open = |framing: &Framing| !framing.is_empty();
            let bodies_up = happened.iter().any(|e| matches!(e, Event::Request { framing, .. } if open(framing)));
            let bodies_down = happened.iter().any(|e| matches!(e, Event::Response { framing, .. } if open(framing)));
            let ends_up = count(|e| *e == Event::RequestEnd);
            let ends_down = count(|e| *e == Event::ResponseEnd);
            let spoils = happened.iter().any(|event| match event {
                Event::Request { persists, .. } => !persists,
                Event::Response { persists, framing } => !persists || *framing == Framing::UntilClose,
                Event::RequestEnd | Event::ResponseEnd | Event::Interim => false,
                _ => true,
            });
            let whole = requests == 1 && responses == 1
                && ends_up == usize::from(bodies_up) && ends_down == usize::from(bodies_down);
            let place = |wanted: fn(&Event) -> bool| happened.iter().position(wanted);
            // Where the request became complete: with its head, or with the end of its body.
            let complete = if bodies_up {
                place(|e| *e == Event::RequestEnd)
            } else {
                place(|e| matches!(e, Event::Request { .. }))
            };
            let is_in_turn = complete < place(|e| matches!(e, Event::Response { .. }));
            prop_assert_eq!(connection.is_reusable(), whole && is_in_turn && !spoils, "{:?}", happened);
            prop_assert!(requests <= 1 && responses <= 1);
        }
    }
}
