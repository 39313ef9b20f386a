//! The last lines that an instance wrote: bounded in number, and safe to show on a terminal.

use std::collections::VecDeque;

/// Longer lines are cut to this many bytes.
const LINE_MAX: usize = 1_024;

/// Reads a log in chunks and keeps its last lines.
#[derive(Debug)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    lines_max: usize,
    bytes_max: usize,
    /// The line that has not ended yet, at most [`LINE_MAX`] bytes of it.
    open: Vec<u8>,
}

impl Tail {
    /// Keeps at most this many lines and bytes.
    pub(super) fn new(lines_max: usize, bytes_max: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, lines_max, bytes_max, open: Vec::new() }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            let part = part.strip_suffix(b"\n").unwrap_or(part);
            let room = LINE_MAX.saturating_sub(self.open.len());
            self.open.extend_from_slice(&part[..part.len().min(room)]);
            if ends {
                self.end_line();
            }
        }
    }

    pub(super) fn push_line(&mut self, line: &str) {
        self.push(line.as_bytes());
        self.end_line();
    }

    /// The last lines, oldest first, with one that has not ended.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.lines.iter().cloned().collect();
        lines.extend(clean(&self.open));
        let beyond = lines.len().saturating_sub(self.lines_max);
        lines.drain(..beyond);
        lines
    }

    fn end_line(&mut self) {
        let line = clean(&self.open);
        self.open.clear();
        let Some(line) = line else { return };
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.lines_max || self.bytes > self.bytes_max {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

/// A line without the characters that control a terminal: escape sequences, other control
/// characters, and marks that change the direction of writing. `None` if nothing is left.
pub(super) fn clean(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                if rest.next_if_eq(&'[').is_some() {
                    // Parameter and intermediate bytes, then one final byte.
                    while rest.next_if(|c| ('\u{20}'..='\u{3f}').contains(c)).is_some() {}
                    rest.next_if(|c| ('\u{40}'..='\u{7e}').contains(c));
                }
            }
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => cleaned.push(' '),
            c => cleaned.push(c),
        }
    }
    cleaned.truncate(cleaned.trim_end().len());
    (!cleaned.is_empty()).then_some(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(lines: usize, bytes: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::new(lines, bytes);
        for chunk in chunks {
            tail.push(chunk);
            assert!(tail.open.len() <= LINE_MAX && tail.bytes <= bytes.max(LINE_MAX));
        }
        tail.lines()
    }

    #[test]
    fn the_last_lines_are_kept_however_they_are_chunked() {
        let text: &[u8] = b"one\r\n\ntwo\n  three\nfour";
        assert_eq!(tail(3, 1_000, &[text]), ["two", "  three", "four"]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(tail(3, 1_000, &bytes), ["two", "  three", "four"]);
        assert_eq!(tail(9, 8, &[b"1234\n5678\nabcd\n"]), ["5678", "abcd"]);
        assert_eq!(tail(0, 100, &[b"x\ny"]), [""; 0]);
    }

    #[test]
    fn a_line_without_an_end_is_cut() {
        let long = [b'x'; 5_000];
        let lines = tail(5, 10_000, &[&long, &long, b"\nnext\n"]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE_MAX, 4]);
        let mut tail = Tail::new(5, 10_000);
        tail.push_line("whole");
        assert_eq!(tail.lines(), ["whole"]);
    }

    #[test]
    fn terminal_control_characters_are_removed() {
        let table: [(&[u8], &str); 7] = [
            (b"\x1b[1;31mred\x1b[0m alert", "red alert"),
            (b"\x1b]0;title\x07text", "]0;title text"),
            (b"a\tb\x00c\x08", "a b c"),
            (b"bell\x1b", "bell"),
            (b"cut\x1b[", "cut"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            ("\u{202e}abc\u{9b}31m".as_bytes(), "abc 31m"),
        ];
        for (line, expected) in table {
            assert_eq!(clean(line).as_deref(), Some(expected), "{line:?}");
        }
        assert_eq!(clean(b"\x1b[2K \r"), None);
    }
}
