//! The lower bound: copies bytes, with one connection to the replica for each client connection.
//!
//! A request takes four system calls (read, write, read, write) beside the waits, and nothing is
//! parsed. What a proxy costs beyond this is its own work.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Size of the buffer.
const BUFFER: usize = 16 << 10;

/// Passes everything that comes in at `listen` on to `upstream`, until the process ends.
///
/// # Errors
/// When the address is taken, or nothing can be accepted any more.
pub async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("cannot bind {listen}"))?;
    loop {
        let (client, _) = listener.accept().await.context("cannot accept")?;
        tokio::spawn(async move {
            // An error on either side closes both connections.
            let _ = connect(client, upstream).await;
        });
    }
}

async fn connect(client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let upstream = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    tokio::try_join!(pass(from_client, to_upstream), pass(from_upstream, to_client))?;
    Ok(())
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.shutdown().await,
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_until_one_side_ends() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = echo.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = echo.accept().await.unwrap();
            let (from, to) = stream.into_split();
            pass(from, to).await.unwrap();
        });
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(front.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = front.accept().await.unwrap();
        let running = tokio::spawn(connect(accepted, upstream));
        client.write_all(b"there and back").await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"there and back");
        running.await.unwrap().unwrap();
    }
}
