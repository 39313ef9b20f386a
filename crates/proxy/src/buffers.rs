//! The memory that all connections of a worker share: one buffer to read into, and buffers for what
//! must wait. A connection has memory only while bytes wait in it.

use std::{
    cell::{RefCell, RefMut},
    ops::Range,
};

use ringmaster_http1::{
    Head,
    chunk::{HEAD_SPACE, TAIL_SPACE},
};

/// Bytes that are read at once. Any head fits in.
const READ_MAX: usize = 64 * 1024;
/// Buffers that are kept for the next that needs one, and how large each may have become.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Where bytes are read to: around them there is room for the line of a chunk.
pub(crate) const READ: Range<usize> = HEAD_SPACE..HEAD_SPACE + READ_MAX;

/// See the module.
pub(crate) struct Buffers {
    scratch: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
    heads: RefCell<Heads>,
}

/// Heads that are being read or changed; none of them is used across an await.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    pub(crate) request: Head,
    pub(crate) response: Head,
    /// Lines that are to be changed.
    pub(crate) lines: Vec<u16>,
    /// A value that is being made.
    pub(crate) text: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            scratch: RefCell::new(vec![0; READ.end + TAIL_SPACE].into_boxed_slice()),
            spare: RefCell::default(),
            heads: RefCell::default(),
        }
    }
}

impl Buffers {
    /// The buffer to read into. It must be let go before anything is awaited.
    pub(crate) fn scratch(&self) -> RefMut<'_, Box<[u8]>> {
        self.scratch.borrow_mut()
    }

    /// The heads to work on. They must be let go before anything is awaited.
    pub(crate) fn heads(&self) -> RefMut<'_, Heads> {
        self.heads.borrow_mut()
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        let is_useful = (1..=SPARE_BYTES_MAX).contains(&buffer.capacity());
        if is_useful && spare.len() < SPARE_MAX {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// Bytes that wait, in a buffer that exists only while there are some.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    bytes: Vec<u8>,
    start: usize,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The buffer, to append to.
    pub(crate) fn end(&mut self, buffers: &Buffers) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
        }
        // Where some always waits, what is done with would otherwise never be let go. Half of the
        // buffer pays for moving the other half.
        if self.start > 0 && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    pub(crate) fn push(&mut self, bytes: &[u8], buffers: &Buffers) {
        if !bytes.is_empty() {
            self.end(buffers).extend_from_slice(bytes);
        }
    }

    /// So many bytes from the front do not wait any more.
    pub(crate) fn consume(&mut self, count: usize, buffers: &Buffers) {
        self.start += count;
        if self.is_empty() {
            self.clear(buffers);
        }
    }

    /// Nothing waits any more.
    pub(crate) fn clear(&mut self, buffers: &Buffers) {
        self.start = 0;
        buffers.give(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_held_only_while_bytes_wait() {
        let (buffers, mut waiting) = (Buffers::default(), Waiting::default());
        waiting.push(b"", &buffers);
        assert_eq!(waiting.bytes.capacity(), 0);
        waiting.push(b"abc", &buffers);
        waiting.push(b"de", &buffers);
        waiting.consume(2, &buffers);
        assert_eq!((waiting.as_slice(), waiting.len()), (&b"cde"[..], 3));
        waiting.consume(3, &buffers);
        assert_eq!((waiting.is_empty(), waiting.bytes.capacity()), (true, 0));
        let spare = buffers.take();
        assert!(spare.is_empty() && spare.capacity() >= 5, "the next one gets it");
    }

    #[test]
    fn memory_is_bounded_by_what_waits_although_some_always_does() {
        let (buffers, mut waiting) = (Buffers::default(), Waiting::default());
        waiting.push(&[0; 200], &buffers);
        let before = waiting.bytes.capacity();
        for number in 1..=250 {
            waiting.consume(100, &buffers);
            waiting.push(&[number; 100], &buffers);
            let expected = [[number - 1; 100], [number; 100]].concat();
            assert_eq!((waiting.as_slice(), waiting.bytes.capacity()), (&expected[..], before));
        }
    }

    #[test]
    fn what_has_become_too_large_or_too_much_is_not_kept() {
        let buffers = Buffers::default();
        buffers.give(Vec::with_capacity(SPARE_BYTES_MAX * 2));
        buffers.give(Vec::new());
        assert_eq!(buffers.take().capacity(), 0);
        (0..SPARE_MAX * 2).for_each(|_| buffers.give(vec![1]));
        let kept = (0..SPARE_MAX * 2).filter(|_| buffers.take().capacity() > 0).count();
        assert_eq!(kept, SPARE_MAX);
    }
}
