//! Who is asking, and what they may do: bearer keys with a role and a scope of collections.
//!
//! Decides 401 and 403; never logs, prints or echoes a key. What isn't allowed is denied.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use subtle::{Choice, ConstantTimeEq};

use crate::problem::Problem;

/// What a key allows. Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Search and get.
    Read,
    /// Upsert and delete points.
    Write,
    /// Create and drop collections; change the cluster.
    Admin,
    /// Another node of this cluster: what only gates, routers and coordinators say to each other.
    Peer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Peer => "peer",
        })
    }
}

/// The collections that a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    All,
    /// At least one pattern holds.
    Some(Vec<Pattern>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Scope {
    fn includes(&self, collection: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(patterns) => patterns.iter().any(|pattern| match pattern {
                Pattern::Exact(name) => name == collection,
                Pattern::Prefix(prefix) => collection.starts_with(prefix.as_str()),
            }),
        }
    }
}

/// Why text is not a key's description. The text itself is never repeated: it holds the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is empty; write it as KEY, KEY:ROLE or KEY:ROLE:COLLECTION,PREFIX*")]
    Empty,
    #[error("a key has a character that no bearer key may have; use visible ASCII without ':'")]
    BadCharacter,
    #[error("a key's role is none of read, write, admin")]
    UnknownRole,
    #[error("a key's scope names no collection; leave out the last ':' to allow all")]
    EmptyScope,
    #[error("a key's scope has a '*' that is not at its pattern's end")]
    BadPattern,
    #[error(
        "a key is given twice; remove one, or it would be unclear what it allows (the peer key must be no API key)"
    )]
    Duplicate,
}

struct Key {
    secret: Box<[u8]>,
    caller: Caller,
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, ':');
        let secret = parts.next().unwrap_or_default();
        let role = match parts.next() {
            None | Some("admin") => Role::Admin,
            Some("read") => Role::Read,
            Some("write") => Role::Write,
            Some(_) => return Err(KeyError::UnknownRole),
        };
        let scope = parts.next().map_or(Ok(Scope::All), str::parse)?;
        Self::new(secret, role, scope)
    }
}

impl Key {
    fn new(secret: &str, role: Role, scope: Scope) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::BadCharacter);
        }
        let caller = Caller { role, scope: Arc::new(scope) };
        Ok(Self { secret: secret.as_bytes().into(), caller })
    }
}

impl FromStr for Scope {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let pattern = |text: &str| {
            let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
            match (text, prefix) {
                ("", false) => Err(KeyError::EmptyScope),
                (text, _) if text.contains('*') => Err(KeyError::BadPattern),
                (text, true) => Ok(Pattern::Prefix(text.to_owned())),
                (text, false) => Ok(Pattern::Exact(text.to_owned())),
            }
        };
        let patterns: Vec<Pattern> = text.split(',').map(pattern).collect::<Result<_, _>>()?;
        // A lone '*' is every collection, so also the cluster as a whole.
        let all = patterns.contains(&Pattern::Prefix(String::new()));
        Ok(if all { Self::All } else { Self::Some(patterns) })
    }
}

/// The keys that a server accepts. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

enum Inner {
    /// Everybody may do everything.
    Open,
    Closed(Vec<Key>),
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Open => f.write_str("Keys(open)"),
            Inner::Closed(keys) => write!(f, "Keys({} hidden)", keys.len()),
        }
    }
}

impl Keys {
    /// No keys: everybody may do everything (`--insecure`).
    pub fn open() -> Self {
        Self(Arc::new(Inner::Open))
    }

    /// Exactly these keys: `KEY` (admin everywhere), `KEY:ROLE` or `KEY:ROLE:COLLECTIONS`, where collections are
    /// names, or prefixes with a trailing `*`, parted by commas. `peer` is the key of the cluster's own nodes.
    /// With neither, nobody is let in.
    ///
    /// # Errors
    /// A description is malformed, or a key is there twice.
    pub fn closed<'a>(
        described: impl IntoIterator<Item = &'a str>,
        peer: Option<&str>,
    ) -> Result<Self, KeyError> {
        let mut keys: Vec<Key> = described.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        if let Some(peer) = peer {
            keys.push(Key::new(peer, Role::Peer, Scope::All)?);
        }
        let mut secrets: Vec<&[u8]> = keys.iter().map(|key| &*key.secret).collect();
        secrets.sort_unstable();
        if secrets.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(KeyError::Duplicate);
        }
        Ok(Self(Arc::new(Inner::Closed(keys))))
    }

    /// Whether no key is asked for.
    pub fn is_open(&self) -> bool {
        matches!(*self.0, Inner::Open)
    }

    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// 401: there is no bearer key, or it is unknown.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let keys = match &*self.0 {
            Inner::Open => return Ok(Caller::anyone()),
            Inner::Closed(keys) => keys,
        };
        let shown = bearer(headers).ok_or_else(|| {
            unauthorised("this needs a key: send the header 'Authorization: Bearer KEY'")
        })?;
        // Every key is compared to its end, so that time tells nothing but lengths.
        let mut found = None;
        for key in keys {
            let equal: Choice = key.secret.ct_eq(shown);
            if bool::from(equal) {
                found = Some(&key.caller);
            }
        }
        found.cloned().ok_or_else(|| {
            unauthorised("the key is unknown here; ask the operator for a valid one")
        })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

fn unauthorised(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// Someone whose key was accepted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    role: Role,
    scope: Arc<Scope>,
}

impl Caller {
    /// Someone who may do everything.
    pub fn anyone() -> Self {
        Self { role: Role::Peer, scope: Arc::new(Scope::All) }
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether the caller may act in this role on this collection.
    pub fn may(&self, role: Role, collection: &str) -> bool {
        self.role >= role && self.scope.includes(collection)
    }

    /// Whether the caller may act in this role on the whole cluster.
    pub fn may_everywhere(&self, role: Role) -> bool {
        self.role >= role && *self.scope == Scope::All
    }

    /// # Errors
    /// 403: the key's role is too low, or the collection is out of its scope.
    pub fn need(&self, role: Role, collection: &str) -> Result<(), Problem> {
        if self.may(role, collection) {
            return Ok(());
        }
        let detail = if self.role < role {
            format!("this needs the role {role}, the key has {}; use another key", self.role)
        } else {
            format!("the key is not for the collection {collection:?}; use another key")
        };
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// # Errors
    /// 403: the key's role is too low, or it is for some collections only.
    pub fn need_everywhere(&self, role: Role) -> Result<(), Problem> {
        if self.may_everywhere(role) {
            return Ok(());
        }
        let detail = if self.role < role {
            format!("this needs the role {role}, the key has {}; use another key", self.role)
        } else {
            "this concerns the whole cluster, the key is for some collections only; use another key"
                .to_owned()
        };
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(keys: &Keys, authorization: &str) -> Result<Caller, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        keys.caller(&headers).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn a_role_includes_the_lower_ones_and_no_higher_one() {
        let keys = Keys::closed(["r:read", "w:write", "a:admin", "b"], Some("p")).unwrap();
        let allowed = |key: &str| {
            let caller = ask(&keys, &format!("Bearer {key}")).unwrap();
            [Role::Read, Role::Write, Role::Admin, Role::Peer].map(|role| caller.may(role, "c"))
        };
        assert_eq!(allowed("r"), [true, false, false, false]);
        assert_eq!(allowed("w"), [true, true, false, false]);
        assert_eq!(allowed("a"), [true, true, true, false]);
        assert_eq!(allowed("b"), [true, true, true, false]);
        assert_eq!(allowed("p"), [true; 4]);
    }

    #[test]
    fn a_scope_is_exact_names_and_prefixes_and_nothing_else() {
        let keys = Keys::closed(["k:admin:words,team-*"], None).unwrap();
        let caller = ask(&keys, "bearer  k ").unwrap();
        for (name, allowed) in [
            ("words", true),
            ("word", false),
            ("words2", false),
            ("team-", true),
            ("team-a", true),
            ("tea", false),
        ] {
            assert_eq!(caller.may(Role::Read, name), allowed, "{name}");
        }
        assert!(!caller.may_everywhere(Role::Read), "a scoped key is not for the whole cluster");
        assert_eq!(caller.need_everywhere(Role::Read).unwrap_err().status, 403);
        assert_eq!(caller.need(Role::Read, "other").unwrap_err().status, 403);
        let all = Keys::closed(["k:read:*"], None).unwrap();
        assert!(ask(&all, "Bearer k").unwrap().may_everywhere(Role::Read));
    }

    #[test]
    fn without_a_valid_key_nobody_is_let_in() {
        let keys = Keys::closed(["secret:read"], None).unwrap();
        for shown in
            ["Bearer secre", "Bearer secretx", "Bearer", "Bearer ", "Basic secret", "secret", ""]
        {
            assert_eq!(ask(&keys, shown).unwrap_err(), 401, "{shown:?}");
        }
        assert_eq!(keys.caller(&HeaderMap::new()).unwrap_err().status, 401);
        let none = Keys::closed([], None).unwrap();
        assert_eq!(ask(&none, "Bearer ").unwrap_err(), 401);
        assert!(Keys::open().caller(&HeaderMap::new()).unwrap().may_everywhere(Role::Peer));
    }

    #[test]
    fn malformed_descriptions_are_refused_without_showing_the_key() {
        let refused = |text: &str| {
            let error = Keys::closed([text], None).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            error
        };
        assert_eq!(refused(""), KeyError::Empty);
        assert_eq!(refused(":admin"), KeyError::Empty);
        assert_eq!(refused("hunter2:root"), KeyError::UnknownRole);
        assert_eq!(refused("hunter2:peer"), KeyError::UnknownRole);
        assert_eq!(refused("hunter2:read:"), KeyError::EmptyScope);
        assert_eq!(refused("hunter2:read:a,,b"), KeyError::EmptyScope);
        assert_eq!(refused("hunter2:read:a*b"), KeyError::BadPattern);
        assert_eq!(refused("hunter 2"), KeyError::BadCharacter);
        assert_eq!(
            Keys::closed(["hunter2", "hunter2:read"], None).unwrap_err(),
            KeyError::Duplicate
        );
        assert_eq!(Keys::closed(["hunter2"], Some("hunter2")).unwrap_err(), KeyError::Duplicate);
    }

    #[test]
    fn keys_are_never_printed() {
        let keys = Keys::closed(["hunter2:read"], Some("hunter3")).unwrap();
        let caller = ask(&keys, "Bearer hunter2").unwrap();
        assert!(!format!("{keys:?} {caller:?}").contains("hunter"));
    }
}
