//! The rivals of the router: nginx and haproxy as plain reverse proxies of one shard, set as their manuals advise.
//!
//! One that isn't installed is left out, with a line that says so.

use std::path::Path;
use std::process::Stdio;

use sheaf_tests::eventually;
use sheaf_tests::port::Port;
use tokio::process::{Child, Command};

use crate::client::Connection;

/// A running proxy; ends with this value.
pub struct Proxy {
    pub name: &'static str,
    pub address: String,
    child: Child,
    _port: Port,
}

impl Proxy {
    /// The id of its process, which has no other.
    pub fn process(&self) -> i32 {
        self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default()
    }
}

/// Starts those that are installed, in front of the server at `shard` (`HOST:PORT`), with their files in `folder`.
pub async fn start(folder: &Path, shard: &str) -> (Vec<Proxy>, Vec<String>) {
    let (mut proxies, mut notes) = (Vec::new(), Vec::new());
    for (name, package) in [("nginx", "nginx-light"), ("haproxy", "haproxy")] {
        match start_one(name, folder, shard).await {
            Ok(proxy) => proxies.push(proxy),
            Err(why) => notes
                .push(format!("{name} is left out: {why} (Debian: `apt-get install {package}`)")),
        }
    }
    (proxies, notes)
}

async fn start_one(name: &'static str, folder: &Path, shard: &str) -> Result<Proxy, String> {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number);
    let (text, arguments): (String, &[&str]) = match name {
        "nginx" => (nginx(folder, &address, shard), &["-c"]),
        _ => (haproxy(&address, shard), &["-db", "-f"]),
    };
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, text).map_err(|why| format!("can't write its settings: {why}"))?;
    let log = std::fs::File::create(folder.join(format!("{name}.log")));
    let log = log.map_err(|why| format!("can't write its log: {why}"))?;
    // Debian keeps daemons where an ordinary user's PATH doesn't look.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let child = Command::new(name)
        .env("PATH", path)
        .args(arguments)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(|why| format!("can't be started: {why}"))?;
    eventually(name, 10, || Connection::open(&address)).await;
    Ok(Proxy { name, address, child, _port: port })
}

/// One process, connections kept on both sides, bodies of our size in memory, no log.
fn nginx(folder: &Path, address: &str, shard: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_max_body_size 64m; client_body_buffer_size 1m;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-f; uwsgi_temp_path {folder}/nginx-u; scgi_temp_path {folder}/nginx-s;
  keepalive_requests 1000000000;
  upstream shard {{ server {shard}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    location / {{ proxy_pass http://shard; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
"
    )
}

/// One thread, connections kept on both sides, no log.
fn haproxy(address: &str, shard: &str) -> String {
    format!(
        "global
  nbthread 1
  maxconn 1000
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind {address}
  default_backend shard
backend shard
  server one {shard}
"
    )
}
