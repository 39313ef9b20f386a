//! Bodies in chunks.

use ringmaster_http1::{
    Fault, Framing,
    body::Body,
    chunk::{Decoder, Event, Limits, Trailers, push_last},
};

/// All data of a body, or what is wrong with it; however it is cut.
fn decoded(body: &str, limits: &Limits) -> Result<(String, String, usize), Fault> {
    let whole = decoded_in(body, limits, body.len(), false);
    for length in 1..=body.len().min(40) {
        assert_eq!(decoded_in(body, limits, length, false), whole, "{body:?} by {length}");
        assert_eq!(decoded_in(body, limits, length, true), whole, "{body:?} by {length}, merged");
    }
    whole
}

fn decoded_in(
    body: &str,
    limits: &Limits,
    length: usize,
    merges: bool,
) -> Result<(String, String, usize), Fault> {
    let (mut decoder, mut trailers) = (Decoder::new(), Trailers::new());
    let (mut data, mut consumed) = (Vec::new(), 0);
    for piece in body.as_bytes().chunks(length.max(1)) {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let input = &mut piece[at..];
            let step = if merges {
                decoder.next_merged(input, &mut trailers, limits)?
            } else {
                decoder.next(input, &mut trailers, limits)?
            };
            at += step.consumed;
            consumed += step.consumed;
            let Event::Data(range) = step.event else { break };
            data.extend_from_slice(&input[range]);
        }
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    if !decoder.is_done() {
        return Err(Fault::BodyCut);
    }
    Ok((text(&data), text(trailers.as_lines()), consumed))
}

fn data(body: &str) -> Result<String, Fault> {
    decoded(body, &Limits::default()).map(|(data, ..)| data)
}

#[test]
fn chunks_become_data() {
    let end = "0\r\n\r\n";
    assert_eq!(data(end).as_deref(), Ok(""));
    assert_eq!(data(&format!("3\r\nabc\r\n{end}")).as_deref(), Ok("abc"));
    assert_eq!(data("1\r\na\r\n2\r\nbc\r\n000\r\n\r\n").as_deref(), Ok("abc"));
    assert_eq!(data(&format!("0000000000000003\r\nabc\r\n{end}")).as_deref(), Ok("abc"));
    assert_eq!(data(&format!("A\r\n0123456789\r\n{end}")).as_deref(), Ok("0123456789"));
    assert_eq!(
        data(&format!("a\r\n\r\n0\r\n\r\nab\n\r\n{end}")).as_deref(),
        Ok("\r\n0\r\n\r\nab\n")
    );
    for extension in [";a", ";a=b", ";a;b=c;d", ";a=\"\"", ";a=\"b;\\\"\\\\\t c\u{e4}\";d"] {
        let body = format!("3{extension}\r\nabc\r\n0{extension}\r\n\r\n");
        assert_eq!(data(&body).as_deref(), Ok("abc"), "{extension}");
    }
    let (data, _, consumed) = decoded("0\r\n\r\nGET", &Limits::default()).unwrap();
    assert_eq!((data.as_str(), consumed), ("", 5), "nothing behind the end");
}

#[test]
fn what_no_two_readers_agree_on_is_refused() {
    for (body, fault) in [
        ("\r\n", Fault::ChunkSize),
        ("x\r\n", Fault::ChunkSize),
        ("0x3\r\nabc\r\n", Fault::ChunkSize),
        ("+3\r\nabc\r\n", Fault::ChunkSize),
        ("-3\r\nabc\r\n", Fault::ChunkSize),
        (" 3\r\nabc\r\n", Fault::ChunkSize),
        ("3 \r\nabc\r\n", Fault::ChunkSize),
        ("3 ;a\r\nabc\r\n", Fault::ChunkSize),
        ("3\t\r\nabc\r\n", Fault::ChunkSize),
        ("3_0\r\n", Fault::ChunkSize),
        ("3\nabc\r\n", Fault::ChunkSize),
        ("3\rabc\r\n", Fault::ChunkSize),
        ("3\r\r\nabc\r\n", Fault::ChunkSize),
        (";a\r\n", Fault::ChunkSize),
        ("00000000000000003\r\nabc\r\n", Fault::ChunkSize),
        ("10000000000000003\r\nabc\r\n", Fault::ChunkSize),
        ("3;\r\nabc\r\n", Fault::ChunkExtension),
        ("3; a\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a \r\nabc\r\n", Fault::ChunkExtension),
        ("3;a=\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a=b=c\r\nabc\r\n", Fault::ChunkExtension),
        ("3;=b\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a\nb\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a=\"b\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a=\"b\"c\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a=\"\\\r\n\"\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a\0\r\nabc\r\n", Fault::ChunkExtension),
        ("3;a\rb\r\nabc\r\n", Fault::ChunkSize),
        ("3\r\nabcd\r\n0\r\n\r\n", Fault::ChunkEnd),
        ("3\r\nabc\n0\r\n\r\n", Fault::ChunkEnd),
        ("3\r\nabc0\r\n\r\n", Fault::ChunkEnd),
        ("3\r\nabcxx0\r\n\r\n", Fault::ChunkEnd),
        ("3\r\nabc\r0\r\n\r\n", Fault::ChunkEnd),
        ("0\r\n\r0", Fault::Trailer),
        ("0\r\n\n", Fault::Trailer),
        ("0\r\nX: a\n\r\n", Fault::Trailer),
        ("0\r\nX: a\r\r\n\r\n", Fault::Trailer),
        ("0\r\nX\r\n\r\n", Fault::Trailer),
        ("0\r\nX : a\r\n\r\n", Fault::Trailer),
        ("0\r\n X: a\r\n\r\n", Fault::Trailer),
        ("0\r\n: a\r\n\r\n", Fault::Trailer),
        ("0\r\nX: a\0\r\n\r\n", Fault::Trailer),
        ("0\r\nX: a\r\n b\r\n\r\n", Fault::Trailer),
    ] {
        assert_eq!(data(body), Err(fault), "{body:?}");
    }
}

#[test]
fn chunks_have_limits() {
    let long = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 4));
    assert_eq!(data(&long(256)).as_deref(), Ok("a"));
    assert_eq!(data(&long(257)), Err(Fault::ChunkLine));
    // Each of these has 200 bytes of an extension, its semicolon among them.
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(199));
    let many = |count| data_once(&(chunk.repeat(count) + "0\r\n\r\n"));
    assert_eq!(many(16 * 1024 / 200), Ok(81));
    assert_eq!(many(16 * 1024 / 200 + 1), Err(Fault::ChunkExtensions));
    let limits = Limits { body_max: 5, trailer_bytes_max: 20, trailers_max: 2 };
    let end = |body: &str| decoded(body, &limits).map(|(data, ..)| data.len());
    assert_eq!(end("5\r\nabcde\r\n0\r\n\r\n"), Ok(5));
    assert_eq!(end("3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n"), Err(Fault::BodyTooLarge));
    assert_eq!(end("ffffffffffffffff\r\n"), Err(Fault::BodyTooLarge));
    assert_eq!(data("1\r\na\r\nffffffffffffffff\r\n"), Err(Fault::BodyTooLarge), "their sum");
    assert_eq!(end("0\r\na: 1\r\nb: 2\r\n\r\n"), Ok(0));
    assert_eq!(end("0\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n"), Err(Fault::Trailers));
    assert_eq!(end(&format!("0\r\na: {}\r\n\r\n", "x".repeat(15))), Ok(0));
    assert_eq!(end(&format!("0\r\na: {}\r\n\r\n", "x".repeat(16))), Err(Fault::Trailers));
}

fn data_once(body: &str) -> Result<usize, Fault> {
    decoded_in(body, &Limits::default(), body.len(), true).map(|(data, ..)| data.len())
}

#[test]
fn trailers_say_nothing_that_belongs_in_a_head() {
    let sent = "0\r\nX-Sum:1\r\nHost: evil\r\nContent-Length: 7\r\nauthorization: a\r\n\
                X-Forwarded-For: a\r\nX_Real_IP: a\r\nTransfer_Encoding: chunked\r\n\
                Set-Cookie: a\r\nX-Request-ID: a\r\nRingmaster-Keep-Status: 1\r\nConnection: x\r\n\
                Trailer: a\r\nVia: a\r\ngrpc-status: \t 0 \r\nX-Empty:\r\n\r\n";
    let (_, trailers, _) = decoded(sent, &Limits::default()).unwrap();
    assert_eq!(trailers, "X-Sum: 1\r\ngrpc-status: 0\r\nX-Empty: \r\n");
    let (mut decoder, mut kept) = (Decoder::new(), Trailers::new());
    decoder.next(sent.as_bytes(), &mut kept, &Limits::default()).unwrap();
    let pairs: Vec<_> = kept.iter().collect();
    let expected: [(&[u8], &[u8]); 3] =
        [(b"X-Sum", b"1"), (b"grpc-status", b"0"), (b"X-Empty", b"")];
    assert_eq!(pairs, expected);
    let mut written = Vec::new();
    push_last(Some(&kept), &mut written);
    assert_eq!(String::from_utf8(written).unwrap(), format!("0\r\n{trailers}\r\n"));
    kept.clear();
    let mut written = Vec::new();
    push_last(Some(&kept), &mut written);
    assert_eq!(written, b"0\r\n\r\n");
}

#[test]
fn tiny_chunks_become_one_piece() {
    let mut body = "1\r\na\r\n".repeat(50).into_bytes();
    body.extend_from_slice(b"0\r\n\r\n");
    let (mut decoder, mut trailers) = (Decoder::new(), Trailers::new());
    let step = decoder.next_merged(&mut body, &mut trailers, &Limits::default()).unwrap();
    let Event::Data(range) = step.event else { panic!("{step:?}") };
    assert_eq!((&body[range], step.consumed), (&b"a".repeat(50)[..], body.len()));
    // A large one stays where it is.
    let mut body = [&b"1\r\na\r\n7d0\r\n"[..], &[b'b'; 2000], b"\r\n0\r\n\r\n"].concat();
    let mut decoder = Decoder::new();
    let step = decoder.next_merged(&mut body, &mut trailers, &Limits::default()).unwrap();
    assert_eq!(step.event, Event::Data(3..4));
    let rest = &mut body[step.consumed..];
    let step = decoder.next_merged(rest, &mut trailers, &Limits::default()).unwrap();
    assert_eq!(step.event, Event::Data(0..2000));
}

#[test]
fn a_body_ends_as_its_framing_says() {
    let limits = Limits { body_max: 4, ..Limits::default() };
    let mut trailers = Trailers::new();
    assert_eq!(Body::new(Framing::Length(5), &limits).err(), Some(Fault::BodyTooLarge));
    let mut none = Body::new(Framing::None, &limits).unwrap();
    assert!(none.is_done());
    assert_eq!(none.next(&mut [b'a'], &mut trailers, &limits).unwrap().event, Event::End);
    let mut sized = Body::new(Framing::Length(4), &limits).unwrap();
    let step = sized.next(&mut b"abc".to_vec(), &mut trailers, &limits).unwrap();
    assert_eq!((step.event, sized.left()), (Event::Data(0..3), Some(1)));
    let mut cut = sized.clone();
    assert_eq!(cut.end_of_input(), Err(Fault::BodyCut));
    assert_eq!(cut.next(&mut [b'd'], &mut trailers, &limits), Err(Fault::BodyCut), "final");
    let step = sized.next(&mut b"defg".to_vec(), &mut trailers, &limits).unwrap();
    assert_eq!((step.consumed, step.event, sized.is_done()), (1, Event::Data(0..1), true));
    assert_eq!(sized.end_of_input(), Ok(()));
    let mut open = Body::new(Framing::UntilClose, &limits).unwrap();
    let step = open.next(&mut b"abcd".to_vec(), &mut trailers, &limits).unwrap();
    assert_eq!((step.event, open.is_done()), (Event::Data(0..4), false));
    let mut large = open.clone();
    assert_eq!(large.next(&mut [b'e'], &mut trailers, &limits), Err(Fault::BodyTooLarge));
    assert_eq!(large.end_of_input(), Err(Fault::BodyTooLarge));
    assert_eq!((open.end_of_input(), open.is_done()), (Ok(()), true));
    let mut chunks = Body::new(Framing::Chunked, &limits).unwrap();
    assert_eq!(chunks.end_of_input(), Err(Fault::BodyCut));
}

#[test]
fn trailers_are_those_of_one_body_only() {
    let limits = Limits::default();
    let with = b"0\r\nX-Sum: 1\r\n\r\n";
    let mut trailers = Trailers::new();
    let mut filled = || {
        assert_eq!(Decoder::new().next(with, &mut trailers, &limits).unwrap().event, Event::End);
        assert_eq!(trailers.as_lines(), b"X-Sum: 1\r\n");
        trailers.clone()
    };
    for (framing, body) in [
        (Framing::Chunked, &b"0\r\n\r\n"[..]),
        (Framing::Chunked, b"1\r\na\r\n0\r\n\r\n"),
        // One that breaks off.
        (Framing::Chunked, b"1\r\na"),
        (Framing::None, b""),
        (Framing::Length(1), b"a"),
        (Framing::UntilClose, b"a"),
    ] {
        let mut trailers = filled();
        let mut reader = Body::new(framing, &limits).unwrap();
        reader.next(&mut body.to_vec(), &mut trailers, &limits).unwrap();
        assert_eq!(trailers.as_lines(), b"", "{framing:?}");
    }
    // Of a body that broke off in its trailers, too.
    let mut trailers = Trailers::new();
    Decoder::new().next(b"0\r\nX-A: 1\r\nX-B", &mut trailers, &limits).unwrap();
    Decoder::new().next(with, &mut trailers, &limits).unwrap();
    assert_eq!(trailers.as_lines(), b"X-Sum: 1\r\n");
}
