//! A model gate: follows directives and reports as the protocol says, without any points.
//!
//! A test can make it silent, slow, or wrong.

use sheaf_map::Moves;
use sheaf_protocol::{
    CopyState, Directive, DirectiveRefusal, DonorReport, GateReport, Load, Proof, RecipientReport,
    Sealed, Stage, StallReport, StreamId,
};
use sheaf_types::{
    Attempt, ClusterId, Digest, Incarnation, MapVersion, Revision, ShardId, StoreId, Term,
};

pub struct ModelGate {
    pub alive: bool,
    /// It takes what it is sent and answers nothing.
    pub hangs: bool,
    pub store_id: StoreId,
    pub incarnation: Incarnation,
    pub cluster_id: Option<ClusterId>,
    pub seq: u64,
    pub points: u64,
    /// Whether its copies converge.
    pub converges: bool,
    /// Whether it hands over its last writes once fenced.
    pub drains: bool,
    /// Whether it says so when a stream is sealed.
    pub seals: bool,
    /// Whether it sweeps when it may.
    pub sweeps: bool,
    /// Added to what it counts as a donor.
    pub miscounts: u64,
    /// Claims proofs of this attempt, whatever it is told.
    pub claims: Option<Attempt>,
    pub clean: bool,
    /// Foreign points that a look found; `None`: it has not looked.
    pub strays: Option<u64>,
    /// Why its engine can't hold a collection of the maps that it is told: it follows none of them.
    pub cannot_hold: Option<String>,
    directive: Option<Directive>,
    left: bool,
    told: (Term, Revision),
    incoming: Vec<RecipientReport>,
    last: Option<GateReport>,
}

impl ModelGate {
    pub fn new(n: u64) -> Self {
        Self {
            alive: true,
            hangs: false,
            store_id: StoreId::from(format!("store-{n}")),
            incarnation: Incarnation(1),
            cluster_id: None,
            seq: 0,
            points: 0,
            converges: true,
            drains: true,
            seals: true,
            sweeps: true,
            miscounts: 0,
            claims: None,
            clean: true,
            strays: None,
            cannot_hold: None,
            directive: None,
            left: false,
            told: (Term(0), Revision(0)),
            incoming: Vec::new(),
            last: None,
        }
    }

    pub fn shard(&self) -> Option<ShardId> {
        self.directive.as_ref().filter(|_| !self.left).map(|directive| directive.shard)
    }

    pub fn follows(&self) -> Option<&Directive> {
        self.directive.as_ref()
    }

    /// It was restarted: what was in memory is gone.
    pub fn restart(&mut self) {
        self.incarnation = self.incarnation.next();
        self.seq = 0;
        self.incoming.clear();
    }

    pub fn follow(&mut self, directive: &Directive) -> Result<(), DirectiveRefusal> {
        if directive.store_id != self.store_id {
            return Err(DirectiveRefusal::OtherStore { mine: self.store_id.clone() });
        }
        if let Some(mine) = self.cluster_id.clone().filter(|mine| *mine != directive.cluster_id) {
            return Err(DirectiveRefusal::OtherCluster { mine });
        }
        if directive.term < self.told.0 {
            return Err(DirectiveRefusal::Deposed { highest: self.told.0 });
        }
        let map = self.directive.as_ref().map_or(MapVersion(0), |told| told.map.version());
        if (directive.term, directive.revision) < self.told || directive.map.version() < map {
            return Err(DirectiveRefusal::Stale { revision: self.told.1, map });
        }
        if self.cannot_hold.is_some() && !directive.retired {
            return Ok(());
        }
        self.told = (directive.term, directive.revision);
        self.cluster_id = Some(directive.cluster_id.clone());
        if directive.retired && self.shard().is_none() {
            self.left = true;
            self.directive = Some(directive.clone());
            return Ok(());
        }
        self.left = false;
        let before = self.directive.replace(directive.clone());
        if directive.order.is_none() {
            let had = before.as_ref().and_then(|before| before.order.as_ref());
            if let Some(order) = had {
                let moves = Moves::between(
                    before.as_ref().unwrap().map.placement(),
                    order.next.placement(),
                );
                let donates = moves.donors().contains(&directive.shard);
                let committed = directive.map.committed() >= order.transition;
                self.clean &= !(donates && committed);
            }
            self.clean &= self.incoming.is_empty();
            self.incoming.clear();
        }
        Ok(())
    }

    /// Does what it may; returns what it streams to its recipients.
    pub fn work(&mut self) -> Vec<(ShardId, RecipientReport)> {
        let Some(directive) = self.directive.clone() else {
            return Vec::new();
        };
        if directive.unproven {
            // It has looked when the test says what it found.
            self.clean = self.strays.is_some();
        }
        if directive.sweep && directive.order.is_none() && self.sweeps {
            self.clean = true;
            self.left |= directive.retired;
        }
        let from = directive.shard;
        let outgoing = self.outgoing();
        let fenced = directive.order.is_some_and(|order| order.stage == Stage::Fence);
        outgoing
            .into_iter()
            .filter(|donor| fenced && donor.proof.is_some())
            .map(|donor| {
                let proof = donor.proof.unwrap();
                let sealed = Some(Sealed { attempt: proof.attempt, donor: proof.donor });
                let (stream, seq, digest) = (donor.stream, proof.seq, proof.recipient);
                (donor.to, RecipientReport { from, stream, seq, digest, sealed })
            })
            .collect()
    }

    pub fn receive(&mut self, mut seal: RecipientReport) {
        if !self.seals {
            seal.sealed = None;
        }
        self.incoming.retain(|known| known.from != seal.from);
        self.incoming.push(seal);
    }

    fn outgoing(&self) -> Vec<DonorReport> {
        let Some(Directive { shard, map, order: Some(order), .. }) = &self.directive else {
            return Vec::new();
        };
        let moves = Moves::between(map.placement(), order.next.placement());
        let mine = moves.pairs().iter().filter(|pair| pair.donor == *shard);
        mine.map(|pair| {
            let recipient = Digest { points: self.points, sum: 7 };
            let donor = Digest { points: self.points + self.miscounts, sum: 7 };
            let fenced = order.stage == Stage::Fence && self.drains;
            let attempt = self.claims.unwrap_or(order.attempt);
            let seq = 10 + attempt.0;
            let proof = fenced.then_some(Proof { attempt, seq, donor, recipient });
            let state = match order.stage {
                Stage::Prepare => CopyState::Waiting,
                Stage::Copy | Stage::Fence if !self.converges => CopyState::Reconciling,
                Stage::Fence if fenced => CopyState::Drained,
                Stage::Copy | Stage::Fence => CopyState::Converged,
            };
            DonorReport {
                to: pair.recipient,
                stream: StreamId { incarnation: self.incarnation, number: 1 },
                state,
                passes: 2,
                sent_points: self.points,
                sent_bytes: self.points * 100,
                repaired_ranges: 0,
                dirty: 0,
                slice_points: self.points,
                proof,
            }
        })
        .collect()
    }

    pub fn has_news(&mut self, incarnation: Incarnation, seq: u64) -> bool {
        let report = self.report();
        (report.incarnation, report.seq) != (incarnation, seq)
    }

    pub fn report(&mut self) -> GateReport {
        let directive = self.directive.as_ref().filter(|_| !self.left);
        let order = directive.and_then(|directive| directive.order.as_ref());
        let mut report = GateReport {
            store_id: self.store_id.clone(),
            incarnation: self.incarnation,
            cluster_id: self.cluster_id.clone(),
            shard: directive.map(|directive| directive.shard),
            term: self.told.0,
            revision: self.told.1,
            seq: 0,
            map_version: directive.map(|directive| directive.map.version()),
            catalogue_ready: directive.is_some(),
            clean: self.clean && self.strays.is_none_or(|strays| strays == 0),
            unproven: directive.is_some_and(|directive| directive.unproven),
            strays: self.strays,
            cannot_hold: self.cannot_hold.clone(),
            transition: order.map(|order| order.transition),
            prepared: order.is_some(),
            outgoing: if directive.is_some() { self.outgoing() } else { Vec::new() },
            incoming: self.incoming.clone(),
            stall: StallReport { held_requests: 3, stall_ms_max: 4, stall_ms_p99: 2 },
            load: Load { points: self.points, bytes: self.points * 100, ..Load::default() },
        };
        if self.last.as_ref() != Some(&report) {
            self.last = Some(report.clone());
            self.seq += 1;
        }
        report.seq = self.seq;
        report
    }
}
