//! Interim responses (1xx): which of them a client sees.

use crate::{fault::Fault, head::HeadRef, message::Version};

/// The most interim responses to one request: a replica that never comes to its response is broken.
const INTERIMS_MAX: u8 = 16;

/// Asks a client for the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Whether a head is an interim response, behind which another one follows. 101 is none: behind it
/// HTTP has ended.
pub fn is_interim(head: HeadRef<'_>) -> bool {
    matches!(head.status(), 100 | 102..200)
}

/// What becomes of an interim response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client gets it.
    Pass,
    /// The client gets it, and may send its body from now on.
    PassContinue,
    /// It stops here.
    Stop,
}

/// The interim responses to one request.
#[derive(Clone, Copy, Debug)]
pub struct Interims {
    seen: u8,
    client: Version,
    is_awaited: bool,
}

impl Interims {
    /// For a request of a client of this version, that waits to be asked for its body or does not.
    pub fn new(client: Version, expects_100: bool) -> Self {
        Interims { seen: 0, client, is_awaited: expects_100 }
    }

    /// What becomes of the next one. HTTP/1.0 knows none, and a client that has not asked to be asked
    /// for its body, or has been, would not know what to do with another 100.
    pub fn next(&mut self, status: u16) -> Result<Verdict, Fault> {
        if self.seen == INTERIMS_MAX {
            return Err(Fault::Interims);
        }
        self.seen += 1;
        if status == 100 {
            let was_awaited = std::mem::take(&mut self.is_awaited);
            return Ok(if was_awaited { Verdict::PassContinue } else { Verdict::Stop });
        }
        let is_understood = self.client == Version::Http11;
        Ok(if is_understood { Verdict::Pass } else { Verdict::Stop })
    }

    /// Whether the client still waits to be asked for its body.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// We have asked the client ourselves, or it has begun to send.
    pub fn settle(&mut self) {
        self.is_awaited = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_for_its_body_once_and_only_if_it_waits_for_that() {
        let mut interims = Interims::new(Version::Http11, true);
        assert_eq!(interims.next(103), Ok(Verdict::Pass));
        assert!(interims.is_awaited());
        assert_eq!(interims.next(100), Ok(Verdict::PassContinue));
        assert_eq!(interims.next(100), Ok(Verdict::Stop));
        let mut unasked = Interims::new(Version::Http11, false);
        assert_eq!(unasked.next(100), Ok(Verdict::Stop));
        let mut settled = Interims::new(Version::Http11, true);
        settled.settle();
        assert_eq!(settled.next(100), Ok(Verdict::Stop));
    }

    #[test]
    fn http_1_0_sees_none_and_their_number_is_limited() {
        let mut old = Interims::new(Version::Http10, false);
        assert_eq!((old.next(103), old.next(102)), (Ok(Verdict::Stop), Ok(Verdict::Stop)));
        let mut endless = Interims::new(Version::Http11, false);
        for _ in 0..INTERIMS_MAX {
            assert_eq!(endless.next(103), Ok(Verdict::Pass));
        }
        assert_eq!(endless.next(103), Err(Fault::Interims));
        assert_eq!(endless.next(100), Err(Fault::Interims));
    }
}
