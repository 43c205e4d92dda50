//! A wire to an HTTP server that knows requests: it can lose one's answer, lose the request itself, delay all, or answer in the
//! server's place. Each such fault is counted, so a test knows that it was met.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::forward::listen;

/// What happens to a request of the kind that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out, and its connection ends before the answer.
    AnswerLost,
    /// Its connection ends before it was sent.
    Lost,
    /// It stays on its way until `deliver`; then its connection ends.
    Late,
    /// This status is answered; the server hears nothing.
    Refused(u16),
}

#[derive(Default)]
struct Shared {
    /// The fault, the requests that it is for, and how many of them yet.
    fault: Mutex<Option<(Fault, &'static str, usize)>>,
    done: AtomicUsize,
    delay_ms: AtomicU64,
    deliver: Notify,
    /// The first lines of all requests.
    seen: Mutex<Vec<String>>,
}

/// Forwards connections to a server.
pub struct Requests {
    pub url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Requests {
    /// A wire to the server at this `HOST:PORT`.
    pub async fn to(server: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let for_all = Arc::clone(&shared);
        let each = move |client, server| forward(client, server, Arc::clone(&for_all));
        let (address, accepting) = listen(server, each).await;
        let url = format!("http://{address}");
        Self { url, shared, accepting }
    }

    /// This happens to the next so many requests that begin like that, `POST /v1/…`.
    pub fn set(&self, fault: Fault, begin: &'static str, times: usize) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) =
            (times > 0).then_some((fault, begin, times));
    }

    /// Every request waits so long before it is sent on.
    pub fn delay(&self, ms: u64) {
        self.shared.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// Lets the late request arrive, or the next one that is late.
    pub fn deliver(&self) {
        self.shared.deliver.notify_one();
    }

    /// Requests so far that begin like that.
    pub fn seen(&self, begin: &str) -> usize {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|line| line.starts_with(begin)).count()
    }

    /// Requests that met their fault.
    pub fn done(&self) -> usize {
        self.shared.done.load(Ordering::SeqCst)
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// What happens to the request with this head.
    fn take(&self, head: &str) -> Option<Fault> {
        let first = head.lines().next().unwrap_or_default().to_owned();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(first);
        let mut set = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (fault, begin, times) = (*set)?;
        if !head.starts_with(begin) {
            return None;
        }
        *set = (times > 1).then_some((fault, begin, times - 1));
        self.done.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }
}

/// Forwards request by request, until a side ends or a fault ends the connection.
async fn forward(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut client, mut server) = (Stream::of(client), Stream::of(server));
    while let Some((head, body)) = client.message().await {
        tokio::time::sleep(Duration::from_millis(shared.delay_ms.load(Ordering::SeqCst))).await;
        let fault = shared.take(&head);
        match fault {
            Some(Fault::Lost) => return,
            Some(Fault::Refused(status)) => {
                let answer = format!("HTTP/1.1 {status} refused\r\ncontent-length: 0\r\n\r\n");
                if client.stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
            Some(Fault::Late) => shared.deliver.notified().await,
            Some(Fault::AnswerLost) | None => {}
        }
        let sent = [head.as_bytes(), &body].concat();
        if server.stream.write_all(&sent).await.is_err() {
            return;
        }
        if fault == Some(Fault::Late) {
            return;
        }
        let Some((head, body)) = server.message().await else { return };
        if fault == Some(Fault::AnswerLost) {
            return;
        }
        if client.stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
            return;
        }
    }
}

/// A connection, read message by message.
struct Stream {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Stream {
    fn of(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    async fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 16 * 1024];
        let length = self.stream.read(&mut bytes).await.ok().filter(|length| *length > 0)?;
        self.read.extend_from_slice(&bytes[..length]);
        Some(())
    }

    /// The next message: its head, with the empty line, and its body. Lengths only; no side of these tests sends chunks.
    async fn message(&mut self) -> Option<(String, Vec<u8>)> {
        let end = loop {
            match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.more().await?,
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding");
        assert!(!is_chunked, "chunks are not understood here: {head}");
        let whole = end + length.unwrap_or(0);
        while self.read.len() < whole {
            self.more().await?;
        }
        let rest = self.read.split_off(whole);
        let message = std::mem::replace(&mut self.read, rest);
        Some((head, message[end..].to_vec()))
    }
}
