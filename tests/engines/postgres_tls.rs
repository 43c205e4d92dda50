//! PostgreSQL in TLS: whom a gate believes, and that it says nothing in plain text where it was told not to.
//!
//! The wheel with pgvector was built without TLS, so its server gets a front that speaks it, as poolers do. Debian's PostgreSQL speaks it
//! itself and has no pgvector: there a gate gets as far as that.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sheaf_engines::{EngineError, conformance};
use sheaf_pgvector::{PgOptions, PgVector};
use sheaf_tests::{Certificates, Postgres};
use sheaf_types::CollectionId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::open;

/// What a client says first that wants TLS. Source: PostgreSQL's protocol.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A front of a PostgreSQL: it takes sessions in TLS only. It ends with this value.
struct Front {
    port: u16,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    in_plain_text: AtomicUsize,
    in_tls: AtomicUsize,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Front {
    async fn of(server: &Postgres, files: &Certificates) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (seen, tls, behind) = (Arc::new(Seen::default()), files.acceptor(), server.address());
        let seen_by_all = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, tls, behind) = (Arc::clone(&seen_by_all), tls.clone(), behind.clone());
                // Either side may hang up.
                tokio::spawn(async move { pass_on(client, &tls, &behind, &seen).await.ok() });
            }
        });
        Self { port, seen, serving }
    }

    /// The URL of a database behind it, at this name of this machine.
    fn url(&self, host: &str, query: &str) -> String {
        format!("postgres://sheaf@{host}:{}/shard?{query}", self.port)
    }

    /// Sessions so far: those that were begun in TLS, and those that weren't.
    fn seen(&self) -> (usize, usize) {
        let read = |of: &AtomicUsize| of.load(Ordering::SeqCst);
        (read(&self.seen.in_tls), read(&self.seen.in_plain_text))
    }
}

async fn pass_on(
    mut client: TcpStream,
    tls: &TlsAcceptor,
    behind: &str,
    seen: &Seen,
) -> io::Result<()> {
    let mut first = [0; SSL_REQUEST.len()];
    client.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        seen.in_plain_text.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    client.write_all(b"S").await?;
    let mut client = tls.accept(client).await?;
    seen.in_tls.fetch_add(1, Ordering::SeqCst);
    let mut server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("the system has room for temporary folders")
}

fn root(ca: &Path) -> String {
    format!("sslrootcert={}", ca.display())
}

async fn refused(url: &str) -> String {
    let options = PgOptions::parse(url, None).unwrap_or_else(|why| panic!("{url}: {why}"));
    match PgVector::open(options).await {
        Err(EngineError::Unavailable(why)) => why,
        Err(other) => panic!("{url}: {other:?}"),
        Ok(_) => panic!("{url} was opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_in_tls_keeps_what_every_engine_promises() {
    let folder = folder();
    let files = Certificates::issue(folder.path());
    let server = Postgres::start().await;
    server.database("shard").await;
    let front = Front::of(&server, &files).await;
    // Either name of the certificate is the server's.
    for host in ["localhost", "127.0.0.1"] {
        let url = front.url(host, &root(&files.ca));
        conformance::run(CollectionId(1), || open(PgOptions::parse(&url, None).unwrap())).await;
    }
    let options = PgOptions::parse_with(&front.url("localhost", ""), None, Some(&files.ca));
    drop(open(options.expect("a CA in a flag is the same")).await);
    let (in_tls, in_plain_text) = front.seen();
    assert!(in_tls > 5 && in_plain_text == 0, "{in_tls} in TLS, {in_plain_text} not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_not_believed_is_told_nothing() {
    let (folder, other_folder) = (folder(), folder());
    let files = Certificates::issue_for(folder.path(), &["localhost", "db.example"]);
    let other = Certificates::issue(other_folder.path());
    let server = Postgres::start().await;
    server.database("shard").await;
    let front = Front::of(&server, &files).await;
    for (what, url) in [
        ("another authority", front.url("localhost", &root(&other.ca))),
        (
            "another authority",
            front.url("localhost", &format!("sslmode=require&{}", root(&other.ca))),
        ),
        ("the system's authorities", front.url("localhost", "sslmode=verify-full")),
        ("the system's authorities", front.url("localhost", "sslmode=require")),
        ("another name", front.url("127.0.0.1", &root(&files.ca))),
    ] {
        let why = refused(&url).await;
        assert!(why.contains("invalid peer certificate"), "{what}: {why}");
        assert!(why.contains("no password was sent") && why.contains("engine_ca"), "{what}: {why}");
    }
    assert_eq!(front.seen(), (0, 0));
    // To whom it doesn't matter, TLS is better than none.
    drop(open(PgOptions::parse(&front.url("127.0.0.1", "sslmode=prefer"), None).unwrap()).await);
    let (in_tls, in_plain_text) = front.seen();
    assert!(in_tls > 0 && in_plain_text == 0, "{in_tls} in TLS, {in_plain_text} not");
    let why = refused(&front.url("127.0.0.1", "sslmode=disable")).await;
    assert_eq!(front.seen(), (in_tls, 1), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_without_tls_is_refused_where_tls_was_asked_for() {
    let folder = folder();
    let files = Certificates::issue(folder.path());
    let server = Postgres::start().await;
    let url = server.database("shard").await;
    for query in ["sslmode=require", "sslmode=verify-full", &root(&files.ca)] {
        let why = refused(&format!("{url}?{query}")).await;
        assert!(why.contains("does not support TLS") && why.contains("ssl = on"), "{query}: {why}");
    }
    for query in ["sslmode=prefer", "sslmode=disable"] {
        drop(open(PgOptions::parse(&format!("{url}?{query}"), None).unwrap()).await);
    }
}

/// The words of a gate that got in, and finds no pgvector there.
async fn gets_in(url: &str, password: Option<&str>) -> bool {
    let options = PgOptions::parse(url, password).unwrap_or_else(|why| panic!("{url}: {why}"));
    match PgVector::open(options).await {
        Err(EngineError::Unsupported(why)) if why.contains("no extension vector") => true,
        Err(EngineError::Unavailable(_)) => false,
        Err(other) => panic!("{url}: {other:?}"),
        Ok(_) => panic!("{url}: Debian has pgvector now, so test with it"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debians_postgresql_lets_a_gate_in_by_tls_with_a_password_that_is_bound_to_it() {
    let (folder, other_folder) = (folder(), folder());
    let files = Certificates::issue(folder.path());
    let other = Certificates::issue(other_folder.path());
    let server = Postgres::start_with_tls(&files).await;
    server.database("shard").await;
    let admin = server.admin("shard").await;
    let role = "CREATE ROLE locked LOGIN PASSWORD 'hush'; GRANT CREATE ON DATABASE shard TO locked";
    admin.batch_execute(role).await.expect("a superuser may");
    let url = |query: &str| format!("postgres://locked@{}/shard?{query}", server.address());
    let bound = format!("{}&channel_binding=require", root(&files.ca));
    assert!(gets_in(&url(&bound), Some("hush")).await, "{}", server.log_end());
    let log = server.log();
    let session =
        log.lines().find(|line| line.contains("user=locked") && line.contains("SSL enabled"));
    assert!(session.is_some_and(|line| line.contains("TLSv1.3")), "{}", server.log_end());
    assert!(gets_in(&url("sslmode=prefer"), Some("hush")).await, "{}", server.log_end());
    for (query, password) in [
        (&*bound, "wrong"),
        (&*root(&other.ca), "hush"),
        ("sslmode=require", "hush"),
        // The server takes this role in TLS only.
        ("sslmode=disable", "hush"),
        ("", "hush"),
    ] {
        assert!(!gets_in(&url(query), Some(password)).await, "{query} with {password}");
    }
    let why = refused(&url(&root(&other.ca))).await;
    assert!(why.contains("invalid peer certificate"), "{why}");
}
