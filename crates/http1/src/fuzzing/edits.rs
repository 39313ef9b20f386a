//! Changes of a head.

use super::{
    Outcome, assert_known, assert_unambiguous, fields, fields_written, read_request, written_lines,
};
use crate::{
    FieldId,
    head::Head,
    scan::Limits,
    write::{self, ToReplica},
};

/// A request's head up to a null byte, then edits: of each one byte that says what, one that says
/// where, and up to the next null byte `name=value`. Whatever is asked for, what is written has the
/// fields that the head says it has, and none besides, and what is known of them is right.
pub fn http1_edits(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (bytes, script) = data.split_at(end);
    let mut head = Head::new();
    let most = Limits { head_bytes_max: u16::MAX, fields_max: u8::MAX, target_bytes_max: u16::MAX };
    if !matches!(read_request(&mut head, bytes, &[], &most), Outcome::Head(_)) {
        return;
    }
    for edit in script.split(|byte| *byte == 0) {
        let [what, line, text @ ..] = edit else { continue };
        let equals = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
        let (name, value) = text.split_at(equals);
        let before = fields(head.over(bytes));
        let line = u16::from(*line);
        let changed = match what % 8 {
            0 | 4 => {
                head.drop_line(line);
                Ok(())
            }
            5 => {
                head.drop_field(FieldId::of(name));
                Ok(())
            }
            6 | 7 => {
                head.retain(bytes, |field| !field.name.eq_ignore_ascii_case(name));
                Ok(())
            }
            1 => head.set(line, &[value, b"+", name]),
            2 => head.append(bytes, line, &[b", ", value]),
            _ => head.add(name, &[value]),
        };
        if changed.is_err() {
            assert_eq!(fields(head.over(bytes)), before, "a refused edit changes nothing");
        }
    }
    let given = head.over(bytes);
    assert_known(given);
    let mut written = Vec::new();
    write::request(given, &ToReplica::as_read(given), &mut written);
    let lines = written_lines(&written);
    assert_unambiguous(&lines);
    let is_own = |name: &[u8]| FieldId::of(name).is_set_by_writer();
    let goes_on: Vec<_> = lines.iter().filter(|(name, _)| !is_own(name)).collect();
    let expected = fields_written(given);
    assert_eq!(goes_on.len(), expected.len());
    for ((name, value), (expected_name, expected_value)) in goes_on.into_iter().zip(&expected) {
        assert_eq!((*name, *value), (&expected_name[..], &expected_value[..]));
    }
}
