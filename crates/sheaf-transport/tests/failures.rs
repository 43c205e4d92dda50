//! Which failures of a call prove that the request was not sent: each peer below breaks off in its own way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use sheaf_transport::{HttpOptions, HyperTransport, Limits, Transport, TransportError, call_whole};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENT: Limits = Limits { timeout: Duration::from_secs(20), answer_bytes_max: 1024 };
/// Long enough for a loopback connection to stand.
const HASTY: Limits = Limits { timeout: Duration::from_millis(300), answer_bytes_max: 1024 };

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path", listener.local_addr().unwrap());
    (listener, url)
}

fn post(url: &str) -> Request<Bytes> {
    Request::post(url).body(Bytes::from_static(b"a body")).unwrap()
}

async fn call(url: &str, limits: Limits) -> Result<Response<Bytes>, TransportError> {
    let transport = HyperTransport::new(HttpOptions::default());
    call_whole(&transport, post(url), limits).await
}

/// Reads one request with its body.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    while !seen.ends_with(b"a body") {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return false,
            Ok(length) => seen.extend_from_slice(&piece[..length]),
        }
    }
    true
}

/// Serves one connection with these answers, one for each request, then closes it.
fn answer_once(
    listener: TcpListener,
    answers: Vec<&'static str>,
) -> tokio::task::JoinHandle<TcpListener> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for answer in answers {
            assert!(read_request(&mut stream).await, "a whole request arrives");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        listener
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

#[tokio::test]
async fn an_answer_arrives_whole_with_its_status() {
    let (listener, url) = listen().await;
    let server = answer_once(listener, vec!["HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy"]);
    let answer = call(&url, PATIENT).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (503, &b"busy"[..]));
    server.await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let (listener, url) = listen().await;
    drop(listener);
    assert!(call(&url, PATIENT).await.unwrap_err().surely_not_sent());
}

#[tokio::test]
async fn an_address_that_means_nothing_proves_that_nothing_was_sent() {
    for url in ["/no-host", "ftp://127.0.0.1/", "http://name.invalid./"] {
        assert!(call(url, PATIENT).await.unwrap_err().surely_not_sent(), "{url}");
    }
}

#[tokio::test]
async fn a_peer_that_takes_the_request_and_dies_leaves_the_outcome_unknown() {
    let (listener, url) = listen().await;
    let server = answer_once(listener, vec![""]);
    assert!(!call(&url, PATIENT).await.unwrap_err().surely_not_sent());
    server.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_closes_a_new_connection_unread_leaves_the_outcome_unknown() {
    let (listener, url) = listen().await;
    let server = tokio::spawn(async move { drop(listener.accept().await) });
    assert!(!call(&url, PATIENT).await.unwrap_err().surely_not_sent());
    server.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_never_answers_leaves_the_outcome_unknown_at_the_deadline() {
    let (listener, url) = listen().await;
    let error = call(&url, HASTY).await.unwrap_err();
    assert!(!error.surely_not_sent(), "the listener's backlog took it: {error}");
    drop(listener);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_stalls_is_lost() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfine";
    let (listener, url) = listen().await;
    let server = answer_once(listener, vec![cut]);
    assert!(!call(&url, PATIENT).await.unwrap_err().surely_not_sent());
    server.await.unwrap();

    let (listener, url) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(read_request(&mut stream).await);
        stream.write_all(cut.as_bytes()).await.unwrap();
        // Stays open until the caller gives up.
        while stream.read(&mut [0; 64]).await.is_ok_and(|length| length > 0) {}
    });
    assert!(!call(&url, HASTY).await.unwrap_err().surely_not_sent());
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_lost_not_kept() {
    let (listener, url) = listen().await;
    let server = answer_once(listener, vec![OK]);
    let error = call(&url, Limits { answer_bytes_max: 3, ..PATIENT }).await.unwrap_err();
    assert!(error.to_string().contains("larger than allowed"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_never_proves_that_nothing_was_sent() {
    let (listener, url) = listen().await;
    let transport = HyperTransport::new(HttpOptions::default());
    let first = answer_once(listener, vec![OK]);
    assert!(call_whole(&transport, post(&url), PATIENT).await.is_ok());
    let second = answer_once(first.await.unwrap(), vec![OK]);
    // Noticed in time, the request goes out on a new connection; else some of it may have been written.
    match call_whole(&transport, post(&url), PATIENT).await {
        Ok(answer) => assert_eq!(&answer.body()[..], b"fine"),
        Err(error) => assert!(!error.surely_not_sent(), "{error}"),
    }
    second.abort();
}

#[tokio::test]
async fn a_body_can_be_read_as_it_arrives() {
    let (listener, url) = listen().await;
    let server = answer_once(listener, vec![OK]);
    let transport = HyperTransport::new(HttpOptions::default());
    let mut body = transport.call(post(&url), PATIENT).await.unwrap().into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        read.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert_eq!(read, b"fine");
    server.await.unwrap();
}

/// A network on which no connection ever stands.
#[derive(Clone)]
struct NeverConnects;

impl tower_service::Service<Uri> for NeverConnects {
    type Response = hyper_util::rt::TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_deadline_that_passes_before_a_connection_stands_proves_that_nothing_was_sent() {
    let transport = HyperTransport::with_connector(NeverConnects, HttpOptions::default());
    let error = call_whole(&transport, post("http://peer/"), HASTY).await.unwrap_err();
    assert!(error.surely_not_sent(), "{error}");
}
