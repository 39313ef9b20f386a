//! Where connections rest. The last that came is the first that goes, so that their number adapts to
//! what is needed, and the oldest ones are together.

use std::cell::RefCell;

use super::connection::Connection;

/// The connections of one worker to one instance that rest.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    #[allow(clippy::vec_box, reason = "they come and go as boxes: a move is a pointer's")]
    /// Oldest first.
    stack: RefCell<Vec<Box<Connection>>>,
}

impl Idle {
    /// A connection that can be used, and has not rested since before `oldest`.
    pub(crate) fn take(&self, oldest: u64) -> Option<Box<Connection>> {
        let mut stack = self.stack.borrow_mut();
        while let Some(connection) = stack.pop() {
            if connection.idle_since() < oldest {
                // What lies below is older still.
                stack.clear();
                break;
            }
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes one back, as long as there are fewer than `most`.
    pub(crate) fn put(&self, mut connection: Box<Connection>, now: u64, most: usize) {
        let mut stack = self.stack.borrow_mut();
        if stack.len() < most && connection.is_quiet() {
            connection.rest(now);
            stack.push(connection);
        }
    }

    /// Closes those that have rested since before `oldest`, and those that the other side closed.
    pub(crate) fn cull(&self, oldest: u64) {
        let mut stack = self.stack.borrow_mut();
        let old = stack.partition_point(|connection| connection.idle_since() < oldest);
        stack.drain(..old);
        stack.retain(|connection| connection.is_quiet());
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.stack.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::net::UnixStream as StdUnixStream, sync::Arc};

    use tokio::net::UnixStream;

    use super::*;
    use crate::{descriptors::Descriptors, socket::Socket};

    /// A connection, and the replica's end of it.
    fn connection() -> (Box<Connection>, StdUnixStream) {
        let (one, other) = StdUnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let held = Arc::new(Descriptors::default()).enter();
        let socket = Socket::Unix(UnixStream::from_std(one).unwrap());
        (Box::new(Connection::new(socket, held)), other)
    }

    /// Lets the runtime see what happened on the sockets.
    async fn look() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    #[tokio::test]
    async fn the_last_that_came_goes_first_and_old_ones_are_closed() {
        let idle = Idle::default();
        let mut ends = Vec::new();
        for now in 1..=4 {
            let (connection, end) = connection();
            idle.put(connection, now, 3);
            ends.push(end);
        }
        look().await;
        assert_eq!(idle.take(0).unwrap().idle_since(), 3, "the fourth had no room");
        idle.cull(2);
        assert_eq!(idle.stack.borrow().len(), 1);
        assert!(idle.take(3).is_none(), "it has rested for too long");
        assert!(idle.stack.borrow().is_empty());
    }

    #[tokio::test]
    async fn one_that_was_closed_or_said_something_is_not_used() {
        let idle = Idle::default();
        let (good, _good) = connection();
        let (closed, end) = connection();
        let (talking, mut other) = connection();
        for one in [good, closed, talking] {
            idle.put(one, 1, 9);
        }
        drop(end);
        other.write_all(b"HTTP/1.1 408 Request Timeout\r\n").unwrap();
        look().await;
        assert!(idle.take(0).is_some_and(|connection| connection.is_reused));
        assert!(idle.take(0).is_none());
        let (closed, end) = connection();
        idle.put(closed, 1, 9);
        drop(end);
        look().await;
        idle.cull(0);
        assert!(idle.stack.borrow().is_empty(), "a sweep closes it, too");
    }

    /// A task may read only so often before it is asked to let others go on.
    #[tokio::test]
    async fn one_sweep_looks_at_all_however_many_they_are() {
        let idle = Idle::default();
        for _ in 0..200 {
            let (closed, _) = connection();
            idle.stack.borrow_mut().push(closed);
        }
        look().await;
        idle.cull(0);
        assert_eq!(idle.stack.borrow().len(), 0);
    }
}
