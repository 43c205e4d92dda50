//! A wire to PostgreSQL that does mischief to a COMMIT. Knows the protocol as far as its frames.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::forward::listen;

/// What a client sends to commit.
const COMMIT: &[u8] = b"COMMIT\0";
/// A query without parameters, and the end of one with some.
const QUERY: u8 = b'Q';
const SYNC: u8 = b'S';

/// What happens to the next COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mischief {
    None,
    /// The server carries it out, the answer gets lost.
    Mute,
    /// It never arrives.
    Lost,
    /// The client's connection ends, and the COMMIT stays on its way until `Wire::deliver`.
    Late,
}

#[derive(Default)]
struct Shared {
    mischief: AtomicU8,
    delay_ms: AtomicU64,
    done: AtomicUsize,
    late: Mutex<Vec<oneshot::Sender<()>>>,
}

/// Forwards connections to a server.
pub struct Wire {
    /// `HOST:PORT`
    pub address: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// A wire to the server at this `HOST:PORT`.
    pub async fn to(server: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let for_all = Arc::clone(&shared);
        let each = move |client, server| forward(client, server, Arc::clone(&for_all));
        let (address, accepting) = listen(server, each).await;
        Self { address, shared, accepting }
    }

    /// This happens to the next COMMIT, once.
    pub fn set(&self, mischief: Mischief) {
        self.shared.mischief.store(mischief as u8, Ordering::SeqCst);
    }

    /// Everything that a client says waits so long before it is sent on.
    pub fn delay(&self, ms: u64) {
        self.shared.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// How often mischief was done.
    pub fn done(&self) -> usize {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// Lets late COMMITs arrive, if anybody is still there to take them.
    pub fn deliver(&self) {
        let mut late = self.shared.late.lock().unwrap_or_else(PoisonError::into_inner);
        for late in late.drain(..) {
            // Its connection may have ended.
            let _ = late.send(());
        }
    }
}

impl Shared {
    /// What happens to this COMMIT.
    fn take(&self) -> Mischief {
        let set = self.mischief.swap(0, Ordering::SeqCst);
        let all = [Mischief::None, Mischief::Mute, Mischief::Lost, Mischief::Late];
        let taken = all.into_iter().find(|mischief| *mischief as u8 == set);
        let taken = taken.unwrap_or(Mischief::None);
        self.done.fetch_add(usize::from(taken != Mischief::None), Ordering::SeqCst);
        taken
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Forwards until a side ends or a COMMIT meets mischief.
async fn forward(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let is_mute = Arc::new(AtomicBool::new(false));
    let answers = tokio::spawn(answer(from_server, to_client, Arc::clone(&is_mute)));
    let mut is_first = true;
    while let Some((kind, frame)) = read_frame(&mut from_client, is_first).await {
        is_first = false;
        // Its frames come together, and each would wait for itself: only what ends a question does.
        let delay_ms = shared.delay_ms.load(Ordering::SeqCst);
        if delay_ms > 0 && (kind == QUERY || kind == SYNC) {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        let is_commit = kind == QUERY && frame[5..] == *COMMIT;
        let mischief = if is_commit { shared.take() } else { Mischief::None };
        if mischief == Mischief::Mute {
            is_mute.store(true, Ordering::SeqCst);
        }
        if matches!(mischief, Mischief::None | Mischief::Mute) {
            if to_server.write_all(&frame).await.is_err() {
                break;
            }
            continue;
        }
        // The client's connection ends; the server's stays.
        answers.abort();
        if mischief == Mischief::Late {
            let (tell, told) = oneshot::channel();
            shared.late.lock().unwrap_or_else(PoisonError::into_inner).push(tell);
            drop(from_client);
            // Answers when it shall arrive; the server may have hung up by then.
            if told.await.is_ok() {
                let _ = to_server.write_all(&frame).await;
            }
        }
        return;
    }
    answers.abort();
}

/// Forwards what the server says, until it is to be mute: then both connections end with its next word.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_mute: Arc<AtomicBool>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let is_over = is_mute.load(Ordering::SeqCst);
        if is_over || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// The next frame, whole; the first one has no kind.
async fn read_frame(client: &mut OwnedReadHalf, is_first: bool) -> Option<(u8, Vec<u8>)> {
    let mut frame = Vec::new();
    if !is_first {
        frame.push(client.read_u8().await.ok()?);
    }
    let length = client.read_u32().await.ok()?;
    frame.extend(length.to_be_bytes());
    let head = frame.len();
    frame.resize(head + (length as usize).checked_sub(4)?, 0);
    client.read_exact(&mut frame[head..]).await.ok()?;
    let kind = if is_first { 0 } else { frame[0] };
    Some((kind, frame))
}
