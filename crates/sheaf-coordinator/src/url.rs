//! One spelling for each node's address, so that one node can't be taken for two.
//!
//! Decides whether a text is the address of a node; never whether anybody answers there.

use std::net::Ipv6Addr;

use crate::refusal::AskRefusal;

/// Bytes of an address. Source: a host name has at most 253.
const URL_BYTES_MAX: usize = 300;

/// The address in its one spelling: `scheme://host[:port]`, in lower case, without the scheme's own port.
///
/// # Errors
/// It is not http or https, or has a path, a query or credentials.
pub fn normalise(url: &str) -> Result<String, AskRefusal> {
    parse(url.trim()).map_err(|why| AskRefusal::BadUrl {
        url: url.chars().take(URL_BYTES_MAX).collect(),
        why: why.to_owned(),
    })
}

fn parse(url: &str) -> Result<String, &'static str> {
    if url.len() > URL_BYTES_MAX {
        return Err("it is too long");
    }
    let url = url.to_ascii_lowercase();
    let (scheme, rest) =
        url.split_once("://").ok_or("it doesn't begin with http:// or https://")?;
    let own_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return Err("it doesn't begin with http:// or https://"),
    };
    let authority = rest.trim_end_matches('/');
    if authority.contains(['/', '?', '#']) {
        return Err("it has a path");
    }
    if authority.contains('@') {
        return Err("it has credentials");
    }
    let (host, port) = split_port(authority)?;
    check_host(host)?;
    match port {
        None => Ok(format!("{scheme}://{host}")),
        Some(port) if port == own_port => Ok(format!("{scheme}://{host}")),
        Some(port) => Ok(format!("{scheme}://{host}:{port}")),
    }
}

/// The host and the port; the port without leading zeroes.
fn split_port(authority: &str) -> Result<(&str, Option<String>), &'static str> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        Some(_) | None => return Ok((authority, None)),
    };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok((host, Some(port.to_string()))),
        Ok(_) | Err(_) => Err("its port is not a number from 1 to 65535"),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().map(|_| ()).map_err(|_| "its host is not an address");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() {
        Err("it has no host")
    } else if host.bytes().all(allowed) {
        Ok(())
    } else {
        Err("its host has letters that host names don't have")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_become_one() {
        for (given, same) in [
            ("http://Node-1:7000", "http://node-1:7000"),
            (" HTTP://node-1:7000// ", "http://node-1:7000"),
            ("http://node-1:80/", "http://node-1"),
            ("https://node_1.example:443", "https://node_1.example"),
            ("http://10.0.0.5:07000", "http://10.0.0.5:7000"),
            ("http://[::1]:7000", "http://[::1]:7000"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(normalise(given).as_deref(), Ok(same));
            assert_eq!(normalise(same).as_deref(), Ok(same));
        }
    }

    #[test]
    fn what_is_not_the_address_of_a_node_is_refused() {
        for given in [
            "",
            "node-1:7000",
            "ftp://a",
            "http://",
            "http://:7000",
            "http://a/b",
            "http://a?b",
            "http://a#b",
            "http://u:p@a",
            "http://a:0",
            "http://a:70000",
            "http://a:",
            "http://a:+1",
            "http://a b",
            "http://[::1",
            "http://[zz]:1",
            "http://ä",
        ] {
            assert!(matches!(normalise(given), Err(AskRefusal::BadUrl { .. })), "{given}");
        }
        assert!(normalise(&format!("http://{}", "a".repeat(400))).is_err());
    }
}
