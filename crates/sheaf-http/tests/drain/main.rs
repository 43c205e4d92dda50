//! A client that is refused while it still sends gets to read why.

use std::time::Duration;

use axum::Router;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Much more than the buffers of a connection hold.
const BODY_BYTES: usize = 48 * 1024 * 1024;

#[tokio::test]
async fn a_client_that_is_refused_before_it_has_sent_its_body_reads_the_refusal() {
    let routes = Router::new().fallback(|| async { (StatusCode::UNAUTHORIZED, "no key") });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(axum::serve(listener, sheaf_http::drain::drained(routes)).into_future());
    let mut client = TcpStream::connect(address).await.expect("it listens");
    let head = format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("it reads");
    // Time for the refusal to be on its way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.write_all(&vec![b'x'; BODY_BYTES]).await.expect("it reads the body out");
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 401");
}
