//! A few keys that all writers write at once, through all routers: their answers must have one order that explains them.
//!
//! Judged by the simulator's own checker, fed with what these clients saw.

use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sheaf_checkers::linearizable::Linearizable;
use sheaf_checkers::{Answer, Call, Checker, ClientKey, Fact, Moment, OpId};
use sheaf_types::PointId;

use crate::load::{Shared, fate};
use crate::patience::eventually;
use crate::record::Fate;
use crate::router::{Miss, Router};

/// How many there are.
const KEYS: usize = 6;
const PREFIX: &str = "contended-";

/// The histories of the contended keys.
#[derive(Default)]
pub(crate) struct Contended {
    judge: Mutex<(Linearizable, u64)>,
}

impl Contended {
    pub fn is_key(key: &str) -> bool {
        key.starts_with(PREFIX)
    }

    pub fn keys(&self) -> usize {
        KEYS
    }

    fn tell(&self, fact: &Fact) {
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        judge.1 += 1;
        let moment = Moment { us: judge.1, event: judge.1, fact: judge.1 };
        // It judges at the end only.
        judge.0.judge(moment, fact).expect("facts are only collected here");
    }

    fn invoked(&self, call: Call) -> OpId {
        let op = {
            let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
            judge.1 += 1;
            OpId(judge.1)
        };
        self.tell(&Fact::Invoked { op, call: Arc::new(call) });
        op
    }

    fn returned<T>(&self, op: OpId, answer: &Result<T, Miss>, done: Answer) {
        let answer = match fate(answer) {
            Fate::Acknowledged => done,
            Fate::Refused => Answer::Refused,
            Fate::Unknown => Answer::Unknown,
        };
        self.tell(&Fact::Returned { op, answer });
    }

    /// Upserts or deletes one of the keys.
    pub async fn write(&self, shared: &Shared, router: &Router, rng: &mut ChaCha8Rng) {
        let key = key(rng);
        let collection = ClientKey { collection: Arc::from("c"), id: PointId::from(key.as_str()) };
        if rng.random_range(0..4) == 0 {
            let op = self.invoked(Call::Delete {
                collection: collection.collection,
                ids: vec![collection.id],
            });
            let answer = router.delete(&shared.collection, &[key]).await;
            shared.count(&answer);
            self.returned(op, &answer, Answer::Done);
        } else {
            let stamp = shared.record().stamp();
            let points = vec![(collection.id, stamp)];
            let op = self.invoked(Call::Upsert { collection: collection.collection, points });
            let answer = router.put(&shared.collection, &[(key, stamp)]).await;
            shared.count(&answer);
            self.returned(op, &answer, Answer::Done);
        }
    }

    /// Reads one of the keys.
    pub async fn read(&self, shared: &Shared, router: &Router, rng: &mut ChaCha8Rng) {
        let answer = self.read_key(&key(rng), shared, router).await;
        shared.count(&answer);
    }

    async fn read_key(
        &self,
        key: &str,
        shared: &Shared,
        router: &Router,
    ) -> Result<Option<u64>, Miss> {
        let op = self.invoked(Call::Get { collection: Arc::from("c"), id: PointId::from(key) });
        let answer = router.get(&shared.collection, key).await;
        let shown = answer.as_ref().ok().copied().flatten();
        self.returned(op, &answer, Answer::Point(shown));
        answer
    }

    /// Reads all of the keys once, when nobody writes any more.
    pub async fn check_at_rest(&self, shared: &Shared, router: &Router) {
        for number in 0..KEYS {
            let key = format!("{PREFIX}{number}");
            eventually("a contended key at rest", 30, || async {
                self.read_key(&key, shared, router).await.map(drop).map_err(|miss| miss.why)
            })
            .await;
        }
    }

    /// # Panics
    /// No order explains the answers.
    pub fn expect_linearizable(&self) {
        let mut judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(violation) = judge.0.finish() {
            panic!("{violation}");
        }
    }
}

fn key(rng: &mut ChaCha8Rng) -> String {
    format!("{PREFIX}{}", rng.random_range(0..KEYS))
}
