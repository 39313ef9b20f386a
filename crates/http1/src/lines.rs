//! The one look at each field of a head: what it says of the message, and whether it goes on.

use std::mem::MaybeUninit;

use crate::{
    fault::Fault,
    field::{FieldId, elements, is_twin, names, without_parameters},
    framing::Lengths,
    head::{Head, Line, Span, State},
    message::{Kind, Version},
    scan::FIELDS_MOST,
};

/// Room for the fields of one head, on the stack.
pub(crate) type Room<'b> = [MaybeUninit<httparse::Header<'b>>; FIELDS_MOST];

pub(crate) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MOST]
}

/// The most elements in all `Connection` lines of a head, empty ones among them. Each may be compared
/// with each field, and more than a few are nothing but work.
const OPTIONS_MAX: usize = 32;

/// What the fields said, as far as a head does not remember it.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) lengths: Lengths,
    /// Lines of `Host`.
    pub(crate) hosts: u16,
    /// Whether `Connection` says `upgrade`.
    pub(crate) upgrades: bool,
    /// Lines of `Upgrade`.
    pub(crate) upgrade_lines: u16,
    /// Whether `Expect` asks to be asked for the body.
    expects: bool,
    /// Elements of `Connection`.
    options: usize,
    /// Whether `Connection` names other fields.
    names_fields: bool,
}

/// Reads the fields of a message. Afterwards the lines that go on are those that are kept, apart
/// from what depends on the framing.
pub(crate) fn read(
    head: &mut Head,
    bytes: &[u8],
    fields: &[httparse::Header<'_>],
    kind: Kind,
) -> Result<Said, Fault> {
    let mut said = Said::default();
    for (index, field) in (0..).zip(fields) {
        let name = field.name.as_bytes();
        let mut line = line_of(bytes, name, field.value).ok_or(Fault::HeadTooLarge)?;
        if is_twin(line.field, name) {
            line.field = FieldId::Unknown;
            if kind == Kind::Request {
                // Behind CGI it would be the field that it looks like.
                line.state = State::Dropped;
            }
        } else if line.field != FieldId::Unknown {
            note(head, &mut said, &mut line, field.value, index);
        }
        head.lines.push(line);
    }
    if OPTIONS_MAX < said.options {
        return Err(Fault::ConnectionOptions);
    }
    if said.names_fields {
        drop_named(head, bytes);
    }
    Ok(said)
}

fn line_of(bytes: &[u8], name: &[u8], value: &[u8]) -> Option<Line> {
    let (name_span, value_span) = (Span::of(name, bytes)?, Span::of(value, bytes)?);
    let (colon, start) = (name_span.range().end, value_span.range().start);
    let exact = start == colon + 2
        && bytes.get(colon..start) == Some(b": ")
        && bytes[value_span.range().end..].starts_with(b"\r\n");
    let field = FieldId::of(name);
    Some(Line {
        name: name_span,
        value: value_span,
        field,
        state: State::Kept,
        exact,
        expects_100: false,
    })
}

/// Takes in a field that is known.
fn note(head: &mut Head, said: &mut Said, line: &mut Line, value: &[u8], index: u16) {
    let known = &mut head.known;
    match line.field {
        FieldId::ContentLength => said.lengths.add_length(value),
        FieldId::TransferEncoding => said.lengths.add_coding(value),
        FieldId::Connection => {
            said.options += value.split(|byte| *byte == b',').count();
            for option in elements(value).map(without_parameters) {
                if option.eq_ignore_ascii_case(b"close") {
                    known.close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    known.keep_alive = true;
                } else if option.eq_ignore_ascii_case(b"upgrade") {
                    said.upgrades = true;
                } else {
                    said.names_fields = true;
                }
            }
        }
        FieldId::Te => known.te_trailers |= names(value, b"trailers"),
        FieldId::Host => {
            said.hosts += 1;
            known.host = known.host.or(Some(index));
        }
        FieldId::Upgrade => {
            said.upgrade_lines += 1;
            known.upgrade = Some(index);
        }
        FieldId::Expect => {
            line.expects_100 = names(value, b"100-continue");
            said.expects |= line.expects_100;
        }
        FieldId::RequestId => known.request_id = known.request_id.or(Some(index)),
        FieldId::XForwardedFor => known.forwarded_for = known.forwarded_for.or(Some(index)),
        _ => {}
    }
    if line.field.is_set_by_writer() {
        line.state = State::Dropped;
    }
}

/// Drops the fields that `Connection` names; never those that framing and routing stand on, not the
/// question that decides when the body comes, and not what a trusted proxy says of the client, which
/// its client could else make it unsay.
fn drop_named(head: &mut Head, bytes: &[u8]) {
    for connection in 0..head.lines.len() {
        if head.lines[connection].field != FieldId::Connection {
            continue;
        }
        let value = head.lines[connection].value;
        for option in elements(&bytes[value.range()]).map(without_parameters) {
            let field = FieldId::of(option);
            let stays = matches!(
                field,
                FieldId::Host | FieldId::ContentLength | FieldId::Expect | FieldId::Upgrade
            );
            // No field has this name: it is reserved (RFC 9110, 18.4).
            let stays = stays || option.eq_ignore_ascii_case(b"close");
            if !stays && !field.is_claim() {
                drop_lines(head, bytes, option);
            }
        }
    }
}

/// Drops the lines of exactly this name, in any case.
fn drop_lines(head: &mut Head, bytes: &[u8], name: &[u8]) {
    for index in (0..).take(head.lines.len()) {
        let own = head.lines[usize::from(index)].name.range();
        if own.len() == name.len() && bytes[own].eq_ignore_ascii_case(name) {
            head.drop_line(index);
        }
    }
}

impl Head {
    /// Decides about `Expect`: it goes on where there is a body to be asked for.
    pub(crate) fn settle_expect(&mut self, said: &Said, is_meant: bool) {
        if !said.expects {
            return;
        }
        self.known.expects_100 = is_meant;
        if !is_meant {
            self.lines.iter_mut().filter(|line| line.expects_100).for_each(|line| {
                line.state = State::Dropped;
            });
        }
    }

    /// Decides about `Upgrade`: it goes on as the only one of its name, and only where it is meant.
    pub(crate) fn settle_upgrade(&mut self, said: &Said, is_meant: bool) {
        let is_one = said.upgrade_lines == 1 && said.upgrades;
        self.known.upgrade.take_if(|_| !is_one || !is_meant);
        let kept = self.known.upgrade.map(usize::from);
        if said.upgrade_lines == 0 {
            return;
        }
        for (index, line) in self.lines.iter_mut().enumerate() {
            if line.field == FieldId::Upgrade && Some(index) != kept {
                line.state = State::Dropped;
            }
        }
    }

    /// Decides whether the connection may serve another message: in HTTP/1.0 only when it was asked
    /// to, and always only when the framing allows it.
    pub(crate) fn settle_persistence(&mut self, framing_keeps: bool) {
        let known = &mut self.known;
        let is_default = self.version == Version::Http11;
        known.persists = framing_keeps && !known.close && (is_default || known.keep_alive);
    }
}

/// What is wrong where the tokeniser stopped.
pub(crate) fn fault_of(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::HeaderName => Fault::FieldName,
        httparse::Error::HeaderValue | httparse::Error::NewLine => Fault::FieldValue,
        httparse::Error::Version => Fault::Version,
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::Status | httparse::Error::Token => Fault::StartLine,
    }
}
