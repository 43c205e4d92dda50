//! Who is where: names, addresses and URLs of the processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port of every process but etcd.
const PORT: u16 = 7000;
/// Where etcd is.
pub const ETCD: &str = "etcd";
pub const ETCD_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), 2379);
/// The process of the clients and the operator.
pub const CLIENTS: &str = "client-0";

/// Kinds of processes; the place in this list is a part of their addresses.
const KINDS: [&str; 5] = ["etcd", "coordinator", "shard", "router", "client"];

pub fn coordinator_name(number: u32) -> String {
    format!("coordinator-{number}")
}

pub fn shard_name(number: u32) -> String {
    format!("shard-{number}")
}

pub fn router_name(number: u32) -> String {
    format!("router-{number}")
}

/// The address of the process with this name.
pub fn ip(name: &str) -> IpAddr {
    let (kind, number) = name.split_once('-').unwrap_or((name, "0"));
    let kind = KINDS.iter().position(|known| *known == kind).expect("a process of a known kind");
    let number: u8 = number.parse().expect("a process with a number");
    IpAddr::from([10, 0, kind as u8 + 1, number + 1])
}

/// Where the process with this name is asked.
pub fn address(name: &str) -> SocketAddr {
    SocketAddr::new(ip(name), PORT)
}

/// `http://NAME:PORT`, as the map has it.
pub fn url(name: &str) -> String {
    format!("http://{name}:{PORT}")
}

/// The name in such a URL; `None`: no process of ours.
pub fn name_in(url: &str) -> Option<&str> {
    let name = url.strip_prefix("http://")?.split_once(':')?.0;
    let kind = name.split_once('-').map_or(name, |(kind, _)| kind);
    KINDS.contains(&kind).then_some(name)
}
