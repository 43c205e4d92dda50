//! Where an etcd is, as an operator writes it: `etcd://HOST:PORT[,HOST:PORT…][/PREFIX]`, or `etcds://…` for TLS.

use std::net::IpAddr;

/// The port of etcd's clients.
const PORT_DEFAULT: u16 = 2379;
/// Under which the keys are when nothing else is said.
const PREFIX_DEFAULT: &str = "/sheaf";

/// The members of an etcd, and the place of one cluster's keys there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    /// `HOST:PORT` of each member, none twice.
    pub members: Vec<String>,
    /// Begins with a slash and doesn't end with one.
    pub prefix: String,
    /// Members are spoken to in TLS.
    pub is_tls: bool,
}

/// Why a text is no address of an etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write etcd://HOST:PORT,HOST:PORT,HOST:PORT[/PREFIX]")]
pub struct AddressError(String);

impl EtcdAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// It is none: the sentence says why.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let refused = |why: String| Err(AddressError(why));
        let is_tls = text.starts_with("etcds://");
        let rest = text.strip_prefix("etcd://").or_else(|| text.strip_prefix("etcds://"));
        let Some(rest) = rest else {
            return refused(format!("{text:?} begins neither with etcd:// nor with etcds://"));
        };
        if rest.contains('@') {
            return refused(
                "a user and a password don't belong in the address, where every process list shows them: set etcd_user \
                 and etcd_password"
                    .to_owned(),
            );
        }
        let (hosts, prefix) = match rest.split_once('/') {
            Some((hosts, prefix)) => (hosts, prefix.trim_matches('/')),
            None => (rest, ""),
        };
        let mut members = Vec::new();
        for host in hosts.split(',').map(str::trim) {
            let member = member(host).map_err(|why| AddressError(format!("{text:?}: {why}")))?;
            if members.contains(&member) {
                return refused(format!("{text:?} names {member} twice"));
            }
            members.push(member);
        }
        if prefix.chars().any(|c| c.is_whitespace() || c.is_control() || c == '?' || c == '#') {
            return refused(format!("{prefix:?} is no prefix of keys"));
        }
        let prefix =
            if prefix.is_empty() { PREFIX_DEFAULT.to_owned() } else { format!("/{prefix}") };
        Ok(Self { members, prefix, is_tls })
    }

    /// The first member that isn't on this machine: what is said to it can be read on the wire.
    pub fn first_remote(&self) -> Option<&str> {
        let is_local = |member: &str| {
            let host = member.rsplit_once(':').map_or(member, |(host, _)| host);
            let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        };
        self.members.iter().map(String::as_str).find(|member| !is_local(member))
    }
}

/// `HOST:PORT` of a member, the port being etcd's own when none is given.
fn member(text: &str) -> Result<String, String> {
    // An IPv6 address has colons of its own, and brackets that part them from the port's.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(of_name),
    };
    if !is_host {
        return Err(format!("{text:?} is no member"));
    }
    let port = match port {
        None => PORT_DEFAULT,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            Ok(_) | Err(_) => return Err(format!("{text:?} has no port from 1 to 65535")),
        },
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<String>, String) {
        let address = EtcdAddress::parse(text).unwrap_or_else(|why| panic!("{why}"));
        (address.members, address.prefix)
    }

    #[test]
    fn members_have_a_port_and_keys_a_prefix() {
        let three = parsed("etcd://h1:2379,h2:12379, h3/a/b/");
        assert_eq!(three.0, ["h1:2379", "h2:12379", "h3:2379"]);
        assert_eq!(three.1, "/a/b");
        assert_eq!(parsed("etcd://10.0.0.1/").1, "/sheaf");
        let is_tls = |text| EtcdAddress::parse(text).is_ok_and(|address| address.is_tls);
        assert_eq!((is_tls("etcds://h1"), is_tls("etcd://h1")), (true, false));
        assert_eq!(parsed("etcd://[::1]:99,[fd00::2]").0, ["[::1]:99", "[fd00::2]:2379"]);
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, why) in [
            ("http://h1:2379", "neither with etcd://"),
            ("etcd://", "no member"),
            ("etcd://h1,,h2", "no member"),
            ("etcd://h1:0", "no port"),
            ("etcd://h1:x", "no port"),
            ("etcd://h1,h1:2379", "twice"),
            ("etcd://root:secret@h1", "etcd_password"),
            ("etcd://h1/a b", "no prefix"),
            ("etcd://fd00::2:2379", "no member"),
        ] {
            let error = EtcdAddress::parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_member_elsewhere_is_found() {
        let remote = |text| EtcdAddress::parse(text).unwrap().first_remote().map(str::to_owned);
        assert_eq!(remote("etcd://127.0.0.1:1,localhost:2,[::1]:3"), None);
        assert_eq!(remote("etcd://127.0.0.1:1,10.0.0.2:2").as_deref(), Some("10.0.0.2:2"));
        assert_eq!(remote("etcd://[fd00::2]").as_deref(), Some("[fd00::2]:2379"));
    }
}
