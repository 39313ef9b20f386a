//! Waits after a start until an instance listens or has ended.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time};

/// Time between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(3);
/// A listener on the same machine accepts within this time.
const CONNECT: Duration = Duration::from_millis(30);

/// Waits until something listens at `address` or `limit` has passed (`None`), or `ended` is ready.
///
/// So a program that ends right after its start (a bad argument, a port in use) is reported with
/// the reason, and a program that listens at once causes no delay.
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
