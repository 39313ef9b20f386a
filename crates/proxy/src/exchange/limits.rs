//! What messages may have, as the codec takes it, and what a task may move of them at once.

use std::task::Context;

use ringmaster_http1::{Limits, chunk};

use super::super::config::ProxyConfig;

/// Bytes of a body that a task moves before it lets others go on.
const TURN_BYTES: usize = 256 * 1024;

/// What a task may still move before it lets others go on: a body that comes as fast as it goes would
/// keep a worker's other connections waiting.
#[derive(Debug)]
pub(super) struct Turn {
    left: usize,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self { left: TURN_BYTES }
    }

    /// So many bytes have been moved.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Whether it is over. Then the task is woken for its next one.
    pub(super) fn is_over(&self, cx: &Context<'_>) -> bool {
        if self.left == 0 {
            cx.waker().wake_by_ref();
        }
        self.left == 0
    }
}

/// What a head may have.
pub(super) fn limits(config: &ProxyConfig) -> Limits {
    Limits {
        head_bytes_max: u16::try_from(config.header_bytes_max).unwrap_or(u16::MAX),
        fields_max: u8::try_from(config.headers_max).unwrap_or(u8::MAX),
        target_bytes_max: u16::try_from(config.uri_max).unwrap_or(u16::MAX),
    }
}

/// What a body may have.
pub(super) fn body_limits(config: &ProxyConfig, body_max: Option<u64>) -> chunk::Limits {
    let Limits { head_bytes_max, fields_max, .. } = limits(config);
    chunk::Limits {
        body_max: body_max.unwrap_or(u64::MAX),
        trailer_bytes_max: head_bytes_max,
        trailers_max: fields_max,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
        task::{Wake, Waker},
    };

    use super::*;

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_turn_ends_after_so_many_bytes_and_another_follows() {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        let mut turn = Turn::new();
        for _ in 0..4 {
            assert!(!turn.is_over(&cx));
            turn.spend(64 * 1024);
        }
        assert_eq!(woken.0.load(SeqCst), 0);
        assert!(turn.is_over(&cx));
        assert_eq!(woken.0.load(SeqCst), 1);
    }
}
