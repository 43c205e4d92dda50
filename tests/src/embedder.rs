//! A server with the embeddings API that Quiver and Sheaf ask: it makes a vector of a text's words, always the same.
//!
//! It ends with this value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::points::DIM;

/// See above.
pub struct Embedder {
    url: String,
    is_broken: Arc<AtomicBool>,
    serving: JoinHandle<()>,
}

impl Drop for Embedder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Embedder {
    /// # Panics
    /// No port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let is_broken = Arc::new(AtomicBool::new(false));
        let broken = Arc::clone(&is_broken);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let broken = Arc::clone(&broken);
                // Who hangs up half-way gets no answer.
                tokio::spawn(
                    async move { serve(stream, broken.load(Ordering::SeqCst)).await.ok() },
                );
            }
        });
        Self { url: format!("http://{address}/v1/embeddings"), is_broken, serving }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers 500 from now on, or no longer.
    pub fn break_down(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Ordering::SeqCst);
    }
}

async fn serve(stream: TcpStream, is_broken: bool) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let texts = asked["input"].as_array().cloned().unwrap_or_default();
    // The last one first: who trusts the order gets the wrong vectors.
    let rows = texts.iter().enumerate().rev().map(|(index, text)| {
        json!({"index": index, "embedding": vector(text.as_str().unwrap_or_default())})
    });
    let (status, answer) = if is_broken {
        ("500 Internal Server Error", json!({"error": "no model is loaded"}))
    } else {
        ("200 OK", json!({"data": rows.collect::<Vec<_>>(), "model": asked["model"]}))
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The sum of what each word gives.
fn vector(text: &str) -> Vec<f32> {
    let mut sum = vec![0.0_f32; DIM];
    for word in text.split_whitespace() {
        let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        for (at, number) in sum.iter_mut().enumerate() {
            *number += f32::from((hash >> (at * 8)) as u8) / 256.0 - 0.5;
        }
    }
    sum
}
