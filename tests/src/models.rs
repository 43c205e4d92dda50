//! A server with the two model APIs that Quiver and Sheaf ask: it makes a vector of a text's words and scores texts for a question,
//! always the same.
//!
//! It ends with this value.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;
use crate::points::DIM;

/// How it does harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mischief {
    #[default]
    None,
    /// Answers 500.
    Refuses,
    /// Never answers.
    Hangs,
    /// Scores all texts but one.
    LeavesOneOut,
    /// Scores one text twice, and another one not.
    ScoresOneTwice,
    /// Scores a text that there isn't.
    ScoresAnother,
    /// Gives a score that no number is.
    ScoresNull,
    /// Gives a score that is too large for a number.
    ScoresInfinity,
}

/// See above.
pub struct ModelServer {
    origin: String,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

/// What it has seen, and how it is to answer.
#[derive(Default)]
struct Seen {
    mischief: Mutex<Mischief>,
    /// What the last request showed.
    authorization: Mutex<String>,
    /// Requests to rank.
    rankings: AtomicUsize,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl ModelServer {
    /// # Panics
    /// No port is free.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that speaks TLS only.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start_with_tls(files: &Certificates) -> Self {
        Self::start_with(Some(files.acceptor())).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let seen = Arc::new(Seen::default());
        let seen_by_all = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, tls) = (Arc::clone(&seen_by_all), tls.clone());
                // Who hangs up half-way gets no answer.
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen).await.ok(),
                        Some(tls) => serve(tls.accept(stream).await.ok()?, &seen).await.ok(),
                    }
                });
            }
        });
        Self { origin: format!("{scheme}://{address}"), seen, serving }
    }

    /// Where texts become vectors.
    pub fn embeddings(&self) -> String {
        format!("{}/v1/embeddings", self.origin)
    }

    /// Where texts are scored.
    pub fn rerank(&self) -> String {
        format!("{}/v2/rerank", self.origin)
    }

    /// From now on.
    pub fn does(&self, mischief: Mischief) {
        *self.seen.mischief.lock().unwrap_or_else(PoisonError::into_inner) = mischief;
    }

    /// What the last request showed in `Authorization`.
    pub fn authorization(&self) -> String {
        self.seen.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often it was asked to rank.
    pub fn rankings(&self) -> usize {
        self.seen.rankings.load(Ordering::SeqCst)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut length, mut is_ranking, mut authorization) = (0, false, String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        is_ranking |= line.starts_with("POST /v2/rerank");
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or_default(),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    *seen.authorization.lock().unwrap_or_else(PoisonError::into_inner) = authorization;
    let mischief = *seen.mischief.lock().unwrap_or_else(PoisonError::into_inner);
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = match mischief {
        Mischief::Refuses => {
            ("500 Internal Server Error", r#"{"error":"no model is loaded"}"#.to_owned())
        }
        Mischief::Hangs => return std::future::pending().await,
        _ if is_ranking => {
            seen.rankings.fetch_add(1, Ordering::SeqCst);
            ("200 OK", ranked(&asked, mischief))
        }
        _ => ("200 OK", embedded(&asked)),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn embedded(asked: &Value) -> String {
    let texts = asked["input"].as_array().cloned().unwrap_or_default();
    // The last one first: who trusts the order gets the wrong vectors.
    let rows = texts.iter().enumerate().rev().map(|(index, text)| {
        json!({"index": index, "embedding": vector(text.as_str().unwrap_or_default())})
    });
    json!({"data": rows.collect::<Vec<_>>(), "model": asked["model"]}).to_string()
}

/// The best one first, as such servers answer.
fn ranked(asked: &Value, mischief: Mischief) -> String {
    let question = asked["query"].as_str().unwrap_or_default();
    let texts = asked["documents"].as_array().cloned().unwrap_or_default();
    let scores = texts.iter().map(|text| score(question, text.as_str().unwrap_or_default()));
    let mut scores: Vec<(usize, f32)> = scores.enumerate().collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    let row = |&(index, score): &(usize, f32)| json!({"index": index, "relevance_score": score, "document": {"text": texts[index]}});
    let mut rows: Vec<Value> = scores.iter().map(row).collect();
    match (mischief, rows.as_mut_slice()) {
        (Mischief::LeavesOneOut, _) => drop(rows.pop()),
        (Mischief::ScoresOneTwice, [first, second, ..]) => second["index"] = first["index"].clone(),
        (Mischief::ScoresAnother, [first, ..]) => first["index"] = json!(texts.len()),
        (Mischief::ScoresNull, [first, ..]) => first["relevance_score"] = Value::Null,
        (Mischief::ScoresInfinity, [first, ..]) => first["relevance_score"] = json!(1e300),
        _ => {}
    }
    json!({"id": "r", "results": rows, "meta": {"api_version": {"version": "2"}}}).to_string()
}

/// The number of words that both have, and an eighth that depends on each letter of the text: some are equal, and no two kinds of
/// text are often.
fn score(question: &str, text: &str) -> f32 {
    let both =
        text.split_whitespace().filter(|word| question.split_whitespace().any(|w| w == *word));
    both.count() as f32 + (hash(text) % 8) as f32 / 8.0
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The sum of what each word gives.
fn vector(text: &str) -> Vec<f32> {
    let mut sum = vec![0.0_f32; DIM];
    for word in text.split_whitespace() {
        for (at, number) in sum.iter_mut().enumerate() {
            *number += f32::from((hash(word) >> (at * 8)) as u8) / 256.0 - 0.5;
        }
    }
    sum
}
