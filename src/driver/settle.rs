//! The first moments of an instance: it listens, it ends, or neither of them yet.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time};

/// Time between two looks at the port.
const PAUSE: Duration = Duration::from_millis(3);
/// A connect that takes longer than this has not met a listener on the same machine.
const CONNECT: Duration = Duration::from_millis(30);

/// Waits until something listens at `address` or `limit` has passed (`None`), or `ended` is ready.
///
/// A program that ends right after its start (a bad argument, a taken port) is reported with its
/// reason this way, and one that listens at once costs no waiting.
pub(crate) async fn settle<T>(
    address: SocketAddr,
    ended: impl Future<Output = T>,
    limit: Duration,
) -> Option<T> {
    let listens = async {
        while !accepts(address).await {
            time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        outcome = ended => Some(outcome),
        () = listens => None,
        () = time::sleep(limit) => None,
    }
}

async fn accepts(address: SocketAddr) -> bool {
    matches!(time::timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_)))
}
