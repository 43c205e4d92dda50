//! A wire to a member of etcd that makes a write of the head late, or loses its answer. Knows HTTP/2 as far as its frames.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What a client says first on a connection.
const PREFACE_BYTES: usize = 24;
/// Length, type, flags, stream.
const FRAME_HEADER_BYTES: usize = 9;
/// What only the write of a head has in its frames.
const OF_A_HEAD: &[u8] = b"\"by\":";
/// Seconds that etcd may take to answer a late write.
const ANSWER_SECS_MAX: u64 = 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// What happens to a connection once a head is written on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mischief {
    None,
    /// The write stays on its way until `Wire::deliver`.
    Late,
    /// The write arrives at once, no answer comes back.
    Mute,
}

#[derive(Default)]
struct Shared {
    mischief: AtomicU8,
    requests: AtomicUsize,
    /// Tells each late write to arrive; its connection says when etcd has answered it.
    late: Mutex<Vec<oneshot::Sender<oneshot::Sender<()>>>>,
}

/// Forwards connections to one member.
pub struct Wire {
    /// `HOST:PORT`
    pub address: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// A wire to the member at this `HOST:PORT`.
    pub async fn to(member: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared::default());
        let (member, for_all) = (member.to_owned(), Arc::clone(&shared));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&member).await.expect("the member runs");
                tokio::spawn(forward(client, server, Arc::clone(&for_all)));
            }
        });
        Self { address, shared, accepting }
    }

    /// From now on this happens to heads that are written.
    pub fn set(&self, mischief: Mischief) {
        self.shared.mischief.store(mischief as u8, Ordering::SeqCst);
    }

    /// Requests that passed so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Lets all late writes arrive, and waits until etcd has judged each. Says how many there were.
    pub async fn deliver(&self) -> usize {
        let late = std::mem::take(&mut *self.shared.lock());
        let count = late.len();
        for arrive in late {
            let (answered, is_answered) = oneshot::channel();
            arrive.send(answered).expect("its connection waits");
            is_answered.await.expect("etcd answers a late write");
        }
        count
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<oneshot::Sender<oneshot::Sender<()>>>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One frame with its header.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    from.read_exact(&mut frame).await.ok()?;
    let length = frame[..3].iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    frame.resize(FRAME_HEADER_BYTES + length, 0);
    from.read_exact(&mut frame[FRAME_HEADER_BYTES..]).await.ok()?;
    Some(frame)
}

async fn forward(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let (mute, muted) = oneshot::channel();
    let backward = tokio::spawn(backward(from_server, to_client, muted));
    let mut preface = [0; PREFACE_BYTES];
    if from_client.read_exact(&mut preface).await.is_err()
        || to_server.write_all(&preface).await.is_err()
    {
        return;
    }
    while let Some(frame) = frame(&mut from_client).await {
        let mischief = shared.mischief.load(Ordering::SeqCst);
        let is_data = frame[3] == DATA;
        if is_data && mischief != Mischief::None as u8 && has(&frame, OF_A_HEAD) {
            // The answer goes nowhere in both cases; whoever waits for it hears when it is there.
            let (answered, is_answered) = oneshot::channel();
            mute.send(answered).expect("one write of a head a connection");
            if mischief == Mischief::Late as u8 {
                stay(frame, from_client, &mut to_server, is_answered, &shared).await;
            } else {
                swallow(&mut to_server, &frame, from_client).await;
            }
            break;
        }
        shared.requests.fetch_add(usize::from(frame[3] == HEADERS), Ordering::SeqCst);
        if to_server.write_all(&frame).await.is_err() {
            break;
        }
    }
    backward.abort();
}

/// Keeps the write until it is told to let it go. That its author gave up on it is not passed on.
async fn stay(
    first: Vec<u8>,
    mut from_client: OwnedReadHalf,
    to_server: &mut OwnedWriteHalf,
    is_answered: oneshot::Receiver<()>,
    shared: &Shared,
) {
    let (arrive, mut may_arrive) = oneshot::channel();
    shared.lock().push(arrive);
    let mut kept = vec![first];
    let mut is_open = true;
    let told = loop {
        tokio::select! {
            biased;
            told = &mut may_arrive => break told,
            next = frame(&mut from_client), if is_open => match next {
                Some(frame) => kept.push(frame),
                None => is_open = false,
            },
        }
    };
    let Ok(told) = told else { return };
    for frame in kept.iter().filter(|frame| ![RESET, GO_AWAY].contains(&frame[3])) {
        to_server.write_all(frame).await.expect("the connection to the member is open");
    }
    let answer = tokio::time::timeout(Duration::from_secs(ANSWER_SECS_MAX), is_answered).await;
    answer.expect("etcd judges a late write in time").expect("the connection is read");
    let _ = told.send(());
}

/// Passes on the write, and nothing after it, until its author is gone.
async fn swallow(to_server: &mut OwnedWriteHalf, write: &[u8], mut from_client: OwnedReadHalf) {
    to_server.write_all(write).await.expect("the connection to the member is open");
    while frame(&mut from_client).await.is_some() {}
}

/// Forwards answers until `muted` fires; then it only looks for the end of one, and says so.
async fn backward(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    mut muted: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let mut answered = None;
    while let Some(frame) = frame(&mut from_server).await {
        if answered.is_none() {
            answered = muted.try_recv().ok();
        }
        match &answered {
            None => {
                if to_client.write_all(&frame).await.is_err() {
                    return;
                }
            }
            Some(_) if frame[3] == HEADERS && frame[4] & END_STREAM != 0 => break,
            Some(_) => {}
        }
    }
    if let Some(answered) = answered {
        let _ = answered.send(());
    }
}

fn has(frame: &[u8], words: &[u8]) -> bool {
    frame.windows(words.len()).any(|some| some == words)
}
