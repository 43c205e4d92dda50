//! The coverage marks of all code that runs in the simulator, and which of them a swarm has hit.
//!
//! A test holds the list to the code: each mark stands in both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Seeds after which a swarm must have come to every place. Source: the rarest mark is hit by about one seed in 7,000.
pub const SEEDS_MIN: u64 = 100_000;

/// Every mark, in the order of letters.
pub const DECLARED: [&str; 173] = [
    "a batch is applied in part",
    "a cancel comes too late",
    "a change of the catalogue waits for the fence",
    "a clock jumps ahead while something is waited for",
    "a collection is dropped while a donor copies",
    "a collection is gone in the middle of a pass",
    "a comparison finds a difference",
    "a coordinator begins its term after a commit that nobody has confirmed",
    "a coordinator begins its term in Abort",
    "a coordinator begins its term in Copy",
    "a coordinator begins its term in Fence",
    "a coordinator begins its term in Prepare",
    "a coordinator begins its term in Sweep",
    "a coordinator dies before it hears that its write was stored",
    "a coordinator dies while its write is on its way",
    "a coordinator is deposed by the store's refusal",
    "a coordinator is deposed while its write is in doubt",
    "a coordinator learns from a gate that it is deposed",
    "a coordinator starts on an old record",
    "a coordinator starts while another one runs",
    "a deadline ends an operation that is under way",
    "a deadline ends an operation that waits to ask again",
    "a directive is followed later",
    "a directive waits for its collections",
    "a directive's map is older than one that was fetched meanwhile",
    "a dirty set is dropped before it is full",
    "a dirty set is full",
    "a donor starts fenced",
    "a donor starts in the middle of a copy",
    "a donor's proof comes before the recipient's own word",
    "a fence ends and its transition goes on",
    "a fence finds acknowledgements that are held back",
    "a fence is backed out because a gate doesn't answer",
    "a fence is backed out because a gate has restarted",
    "a fence is backed out without need",
    "a fence is over its budget",
    "a fence is tried again",
    "a fence waits for writes that are under way",
    "a frame comes before its turn",
    "a frame is repeated before its turn has come",
    "a frame is repeated while it is carried out",
    "a frame is sent again",
    "a frame of an earlier stream comes late",
    "a gate answers that has left meanwhile",
    "a gate dies fenced",
    "a gate dies in Copy",
    "a gate dies in Prepare",
    "a gate dies while it has to sweep",
    "a gate has to sweep before it is prepared",
    "a gate learns of a commit that came after its own transition",
    "a gate learns that it is unproven",
    "a gate refuses a deposed coordinator",
    "a gate refuses a late directive",
    "a gate refuses to start on a record with a flipped bit",
    "a gate starts before it is swept",
    "a gate starts between an order and its preparation",
    "a gate that hasn't heard of its adoption says that it is clean",
    "a gate that is no shard is told to leave",
    "a gate waits for engine calls of before to be prepared",
    "a held request is abandoned by who sent it",
    "a late write finds that the store has moved on",
    "a later attempt commits",
    "a later stream takes the place of one before",
    "a map that a request waits for can't be fetched",
    "a map that was fetched is thrown away",
    "a map that was fetched waits for its collections",
    "a name is wanted again that a shard may still serve",
    "a new stream waits for the last frame of the one before",
    "a node becomes free again",
    "a node is wanted that is a shard already",
    "a node is wanted that is about to join",
    "a node is wanted that is about to leave",
    "a node that is to join can't be reached",
    "a pass under the fence finds a difference",
    "a pass waits to be judged while writes go on",
    "a paused donor has something to copy",
    "a poll has no answer in time",
    "a process dies between two effects of one event",
    "a process starts with a clock that was set back",
    "a range that is to be repaired can't be read",
    "a read is done after its point moved",
    "a read is made once more",
    "a recipient deletes points that the donor doesn't have",
    "a recipient doesn't know a frame's stream",
    "a recipient doesn't know a stream that it knows",
    "a recipient starts in the middle of a transition",
    "a recipient waits for a frame that it carried out before it restarted",
    "a recipient waits for a search that sees everything",
    "a recipient's engine fails at a frame",
    "a recipient's refusal makes a stream begin anew",
    "a record is torn when the power goes",
    "a record's new name is lost when the power goes",
    "a repeated frame is answered from memory",
    "a report comes after a newer one",
    "a request comes whose answer is there already",
    "a request that a fence held is refused: its point moved",
    "a request that a fence held is served after all",
    "a request that a fence holds expires",
    "a request that waited for a map is served",
    "a request that waits for a map expires",
    "a router asks again after a fence",
    "a router asks the new owner",
    "a running transition is steered",
    "a search begins anew at another version",
    "a search is done after the map changed",
    "a search is not answered in time",
    "a search leaves a round whose map is outdated",
    "a stream rests",
    "a superseded poll brings a report that counts",
    "a superseded poll fails",
    "a sweep begins anew",
    "a throttled donor waits",
    "a transition commits a move without points",
    "a transition commits that moves nothing",
    "a transition ends while a recipient has frames to answer",
    "a transition ends without a gate that is silent",
    "a transition is cancelled in Copy",
    "a transition is cancelled in Fence",
    "a transition is cancelled in Prepare",
    "a transition is cancelled in the queue",
    "a transition is given up because a recipient is gone",
    "a transition is wanted of a cluster that is unproven",
    "a transition that waited became impossible",
    "a transition that waits, or is none, is steered",
    "a write is lost on its way and may have been applied",
    "a write is stored after its coordinator stopped waiting for it",
    "a write of unknown outcome is applied late",
    "a write of unknown outcome is found in the store",
    "a write of unknown outcome isn't in the store",
    "a write that is tried again is refused",
    "a write's acknowledgement is held back",
    "a write's outcome is forgotten",
    "all servers die at once",
    "an abort ends without a recipient that is silent",
    "an adopted cluster is proven",
    "an answer comes that nobody waits for any more",
    "an answer comes to a process that has died since it asked",
    "an answer to an earlier stream or a second one comes",
    "an ask is not decided in time",
    "an ask is refused because a gate is ahead of the record",
    "an ask names a map that isn't current",
    "an ask that is repeated gets its first answer",
    "an engine can't create or drop a collection at once",
    "an engine carries out what a gate asked before it died",
    "an engine fails at a sweep",
    "an engine has no room for a write",
    "an older directive comes while a later one waits for its collections",
    "an operator promotes a transition",
    "an operator would remove a shard that owns points",
    "an operator's cancel races the commit and loses",
    "an operator's change waits for the fence",
    "an outgoing write fails",
    "an unproven gate finds nothing that it doesn't own",
    "an unproven gate finds strays",
    "an unproven gate refuses a delete",
    "dirty ids are drained under the fence",
    "dirty ids are read for a stream that was given up",
    "dirty ids can't be read and stay dirty",
    "equal sides are compared once more",
    "gates are asked without patience",
    "it is unknown whether a commit was stored",
    "it is unknown whether a write was stored",
    "it is unknown whether an abort was stored",
    "it is unknown whether an outgoing write was applied",
    "one shard of a search is asked again",
    "something is asked while a write is in doubt",
    "the catalogue changes while a transition runs",
    "the map changes in the middle of a sweep",
    "the only coordinator refuses to start on a record with a flipped bit",
    "the store can't be read while a write is in doubt",
    "too many requests are held for one more",
    "what a gate wrote when it died is durable",
    "what the only coordinator wrote when the power went is durable",
];

/// How many runs hit a mark, and how often in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hits {
    seeds: u64,
    times: u64,
    /// The lowest seed that hit it.
    first: u64,
}

/// The marks of many runs.
#[derive(Debug, Default)]
pub struct Table {
    hits: Mutex<BTreeMap<&'static str, Hits>>,
}

impl Table {
    /// Takes in what this thread's last run has hit.
    pub fn take_in(&self, seed: u64) {
        let run = sheaf_types::marks::take();
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, times) in run {
            let mark = hits.entry(name).or_insert(Hits { first: seed, ..Hits::default() });
            mark.seeds += 1;
            mark.times += times;
            mark.first = mark.first.min(seed);
        }
    }

    /// The marks that no run has hit.
    pub fn never(&self) -> Vec<&'static str> {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        DECLARED.into_iter().filter(|name| !hits.contains_key(name)).collect()
    }

    /// All marks, the rarest first.
    pub fn text(&self) -> String {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let found = |name| hits.get(name).copied().unwrap_or_default();
        let mut rows: Vec<(Hits, &str)> =
            DECLARED.into_iter().map(|name| (found(name), name)).collect();
        rows.sort_by_key(|(hits, name)| (hits.seeds, *name));
        let mut text = format!("{:>9} {:>11} {:>9}  mark\n", "seeds", "times", "first");
        for (Hits { seeds, times, first }, name) in rows {
            let first = if seeds == 0 { "-".to_owned() } else { first.to_string() };
            // Writing to a string can't fail.
            let _ = writeln!(text, "{seeds:>9} {times:>11} {first:>9}  {name}");
        }
        text
    }
}
