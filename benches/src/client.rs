//! A client that costs as little as it can: one connection, requests made beforehand, answers counted and not read.
//!
//! Knows just enough HTTP/1.1 to find the end of an answer. Never asks twice.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stopwatch::{Readings, Stopwatch};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// A request with this body; none when it is empty.
pub fn request(method: &str, path: &str, body: &[u8]) -> Bytes {
    // A shard that isn't meant would answer for the whole cluster; a router doesn't look at this.
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\nsheaf-shard: 1\r\n");
    if !body.is_empty() {
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    head += "\r\n";
    [head.as_bytes(), body].concat().into()
}

impl Connection {
    pub async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends the request, reads the whole answer, and returns its status.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let mut end = None;
        while end.is_none_or(|end| !end_is_here(end, &self.answer)) {
            self.answer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            end = end.or_else(|| end_of(&self.answer));
        }
        let status = self.answer.get(9..12).and_then(|text| std::str::from_utf8(text).ok());
        status.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After so many bytes, head included.
    Bytes(usize),
    /// With the chunk of no bytes; no JSON text has its line ends.
    LastChunk,
}

/// What the head says of the end; `None` while the head is not complete.
fn end_of(answer: &[u8]) -> Option<End> {
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    Some(length.map_or(End::LastChunk, |length| End::Bytes(head + length)))
}

fn end_is_here(end: End, answer: &[u8]) -> bool {
    match end {
        End::Bytes(bytes) => answer.len() >= bytes,
        End::LastChunk => answer.ends_with(b"0\r\n\r\n"),
    }
}

/// What a load saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub answers: u64,
    /// Answers that are no success, and requests without answer.
    pub failed: u64,
    pub seconds: f64,
    pub latencies_us: Readings,
}

/// Keeps so many connections busy for this time, each with one request after the other.
pub async fn closed_loop(
    address: &str,
    requests: &Rc<[Bytes]>,
    connections: usize,
    time: Duration,
) -> Seen {
    let watch = Stopwatch::start();
    let workers = (0..connections).map(|worker| {
        let (address, requests) = (address.to_owned(), Rc::clone(requests));
        tokio::task::spawn_local(async move {
            let mut seen = Seen::default();
            let Ok(mut connection) = Connection::open(&address).await else {
                return Seen { failed: 1, ..seen };
            };
            for request in requests.iter().cycle().skip(worker * 7919 % requests.len()) {
                let begun = watch.elapsed();
                if begun >= time {
                    break;
                }
                match connection.ask(request).await {
                    Ok(200..=299) => seen.answers += 1,
                    Ok(_) => seen.failed += 1,
                    Err(_) => return Seen { failed: seen.failed + 1, ..seen },
                }
                seen.latencies_us.add((watch.elapsed() - begun).as_secs_f64() * 1e6);
            }
            seen
        })
    });
    let workers: Vec<_> = workers.collect();
    let mut all = Seen::default();
    for worker in workers {
        let seen = worker.await.unwrap_or_else(|why| panic!("a load's worker ended: {why}"));
        all.answers += seen.answers;
        all.failed += seen.failed;
        all.latencies_us.extend(&seen.latencies_us);
    }
    all.seconds = watch.elapsed().as_secs_f64();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let end = end_of(whole).unwrap();
        assert!(end_is_here(end, whole) && !end_is_here(end, &whole[..whole.len() - 1]));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(end_of(chunked), Some(End::LastChunk));
        assert!(end_is_here(End::LastChunk, chunked));
        assert_eq!(end_of(&whole[..20]), None);
    }
}
