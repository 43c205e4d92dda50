//! Whose turn it is to write at a gate: an insert has all other writes to itself, from its look at the points to its end.
//!
//! The real shell has a fair lock for that: who comes while an insert waits, waits behind it.

use std::collections::{BTreeSet, VecDeque};

use sheaf_gate::{Change, Operation, Request, Token};
use sheaf_types::Time;

/// The writes that a gate's shell has taken in.
#[derive(Debug, Default)]
pub struct Turns {
    writing: BTreeSet<Token>,
    inserts: bool,
    waiting: VecDeque<(Token, Request)>,
}

fn is_insert(request: &Request) -> bool {
    matches!(request.operation, Operation::Write { change: Change::Insert, .. })
}

impl Turns {
    /// Takes in a request. Returns it if it may begin now.
    pub fn begin(&mut self, token: Token, request: Request) -> Option<Request> {
        if !matches!(request.operation, Operation::Write { .. }) {
            return Some(request);
        }
        if !self.waiting.is_empty() || !self.is_free_for(&request) {
            self.waiting.push_back((token, request));
            return None;
        }
        self.enter(token, &request);
        Some(request)
    }

    fn is_free_for(&self, request: &Request) -> bool {
        self.writing.is_empty() || !(self.inserts || is_insert(request))
    }

    fn enter(&mut self, token: Token, request: &Request) {
        self.inserts = is_insert(request);
        self.writing.insert(token);
    }

    pub fn waits(&self, token: Token) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == token)
    }

    /// A request is over, or nobody waits for it any more. Returns whether another one may begin.
    pub fn end(&mut self, token: Token) -> bool {
        self.writing.remove(&token);
        self.waiting.retain(|(waiting, _)| *waiting != token);
        self.waiting.front().is_some_and(|(_, request)| self.is_free_for(request))
    }

    /// The next that may begin; those whose time is over never do, and nobody is told: the caller doesn't listen any more.
    pub fn next(&mut self, now: Time) -> Option<(Token, Request)> {
        self.waiting.retain(|(_, request)| request.deadline > now);
        if !self.is_free_for(&self.waiting.front()?.1) {
            return None;
        }
        let (token, request) = self.waiting.pop_front()?;
        self.enter(token, &request);
        Some((token, request))
    }
}
