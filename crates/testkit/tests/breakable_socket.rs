//! A relay that breaks on demand, in front of an echo and of PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed preparation is a failed test")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tenantry_testkit::{BreakableSocket, Namespace, Server, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_postgres::NoTls;

/// Answers each piece with the same piece.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test]
async fn what_is_sent_passes_in_both_directions_and_connections_are_counted() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut first = TcpStream::connect(socket.address()).await.unwrap();
    let mut second = TcpStream::connect(socket.address()).await.unwrap();
    assert_eq!(ask(&mut first, "one").await.unwrap(), "one");
    let long = "x".repeat(1_000_000);
    let (mut from, mut to) = second.split();
    let mut received = Vec::new();
    let (sent, read) = tokio::join!(
        async {
            to.write_all(long.as_bytes()).await?;
            to.shutdown().await
        },
        from.read_to_end(&mut received)
    );
    sent.unwrap();
    assert_eq!((read.unwrap(), received.len()), (1_000_000, 1_000_000));
    assert_eq!(socket.accepted(), 2);
    drop(second);
    eventually("one connection is left", async || socket.open() == 1).await;
}

#[tokio::test]
async fn a_cut_resets_open_connections_and_lets_new_ones_pass() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    ask(&mut stream, "hello").await.unwrap();
    socket.cut();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    assert_eq!(ask(&mut stream, "again").await.unwrap(), "again");
}

#[tokio::test]
async fn while_down_nobody_gets_through() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut open = TcpStream::connect(socket.address()).await.unwrap();
    ask(&mut open, "hello").await.unwrap();
    socket.go_down();
    assert!(ask(&mut open, "still there?").await.is_err());
    for _ in 0..3 {
        let mut stream = TcpStream::connect(socket.address()).await.unwrap();
        assert!(ask(&mut stream, "anybody?").await.is_err());
    }
    socket.come_up();
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    assert_eq!(ask(&mut stream, "back").await.unwrap(), "back");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_reset() {
    let socket = BreakableSocket::before(echo().await).await;
    socket.limit(1);
    let mut first = TcpStream::connect(socket.address()).await.unwrap();
    ask(&mut first, "in").await.unwrap();
    let mut second = TcpStream::connect(socket.address()).await.unwrap();
    assert!(ask(&mut second, "out").await.is_err());
    assert_eq!(ask(&mut first, "still in").await.unwrap(), "still in");
}

#[tokio::test]
async fn what_is_held_arrives_after_the_release() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    ask(&mut stream, "hello").await.unwrap();
    socket.hold();
    let asking = ask(&mut stream, "patience");
    tokio::pin!(asking);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut asking).await.is_err());
    socket.release();
    assert_eq!(asking.await.unwrap(), "patience");
}

#[tokio::test]
async fn a_delay_is_added_to_each_direction() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    socket.delay(Duration::from_millis(30), Duration::from_millis(40));
    let start = Instant::now();
    ask(&mut stream, "slowly").await.unwrap();
    // A lower bound holds on the busiest machine.
    assert!(start.elapsed() >= Duration::from_millis(70));
}

#[tokio::test]
async fn a_lost_reply_means_that_the_server_did_it_and_the_client_does_not_know() {
    let server = Server::shared().await;
    let namespace = Namespace::on(server);
    let database = namespace.name("unknown");
    let socket = BreakableSocket::before(server.address()).await;
    let (client, connection) = server.config_at(socket.address()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);

    socket.lose_reply_with("CREATE DATABASE");
    client.simple_query("SELECT 1").await.unwrap();
    let error = client.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap_err();
    assert_eq!(error.code(), None);
    assert_eq!(socket.sprung(), 1);
    assert_eq!(server.databases_like(&database).await, std::slice::from_ref(&database));
}

#[tokio::test]
async fn the_next_reply_of_any_kind_can_be_lost_once() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    ask(&mut stream, "hello").await.unwrap();
    socket.lose_next_reply();
    assert!(ask(&mut stream, "lost").await.is_err());
    socket.wait_sprung(1).await;
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    assert_eq!(ask(&mut stream, "found").await.unwrap(), "found");
}

#[tokio::test]
async fn a_connection_can_end_right_after_a_reply() {
    let socket = BreakableSocket::before(echo().await).await;
    let mut stream = TcpStream::connect(socket.address()).await.unwrap();
    socket.cut_after_reply_with("bye");
    assert_eq!(ask(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(ask(&mut stream, "goodbye").await.unwrap(), "goodbye");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    eventually("the connection is gone", async || socket.open() == 0).await;
}
