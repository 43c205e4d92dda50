//! A client of one router: what an answer means for the record. Never asks twice.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{Answer, Client, Gone, segment};
use crate::points;

/// Points that a router of Quiver's counts: as many as a search of it may show.
const COUNTED_MAX: usize = 10_000;

/// Why a request did not succeed.
#[derive(Clone, Debug)]
pub struct Miss {
    /// Whether it may have been applied, or will be.
    pub unknown: bool,
    pub why: String,
}

/// One router.
#[derive(Clone)]
pub struct Router {
    pub client: Client,
    /// Whether it is a router of Quiver's own, which neither lists nor counts points.
    is_quivers: bool,
}

impl Router {
    pub fn new(client: Client) -> Self {
        Self { client, is_quivers: false }
    }

    /// A router of Quiver's own.
    pub fn of_quiver(client: Client) -> Self {
        Self { client, is_quivers: true }
    }

    /// Writes these points, each as the write with its stamp makes it.
    ///
    /// # Errors
    /// It was refused, or its outcome is unknown.
    pub async fn put(&self, collection: &str, stamps: &[(String, u64)]) -> Result<(), Miss> {
        let points: Vec<Value> =
            stamps.iter().map(|(id, stamp)| points::point(id, *stamp)).collect();
        let path = format!("/v1/collections/{collection}/points");
        let answer = self.client.post(&path, &json!({ "points": points })).await;
        let body = whole(answer, stamps.len() == 1)?;
        if body["upserted"] == stamps.len() {
            return Ok(());
        }
        Err(Miss {
            unknown: true,
            why: format!("{} points were sent, the answer is {body}", stamps.len()),
        })
    }

    /// Deletes these points, and says how many there were.
    ///
    /// # Errors
    /// It was refused, or its outcome is unknown.
    pub async fn delete(&self, collection: &str, ids: &[String]) -> Result<u64, Miss> {
        let path = format!("/v1/collections/{collection}/points");
        let answer = self.client.json(Method::DELETE, &path, &[], &json!({ "ids": ids })).await;
        let body = whole(answer, ids.len() == 1)?;
        let deleted = body["deleted"].as_u64();
        deleted.ok_or_else(|| Miss {
            unknown: true,
            why: format!("a delete was answered with {body}"),
        })
    }

    /// The point; `None` when it is absent.
    ///
    /// # Errors
    /// It was not answered, or with a point that no write makes.
    pub async fn get(&self, collection: &str, id: &str) -> Result<Option<u64>, Miss> {
        let path = format!("/v1/collections/{collection}/points/{}", segment(id));
        let answer = self.client.get(&path).await;
        if let Ok(Answer { status: StatusCode::NOT_FOUND, body, .. }) = &answer {
            // An unknown collection is a 404 too.
            let about_collection = body["refusal"]["kind"] == "no_collection"
                || body["detail"].as_str().is_some_and(|detail| detail.contains("ollection"));
            if !about_collection {
                return Ok(None);
            }
        }
        let body = whole(answer, true)?;
        let (shown, stamp) = points::stamp_of(&body).map_err(torn)?;
        if shown != id {
            return Err(torn(format!("{id:?} was asked for, {shown:?} was answered")));
        }
        Ok(Some(stamp))
    }

    /// The best `k` hits for this vector, with their scores.
    ///
    /// # Errors
    /// It was not answered, or with a point that no write makes.
    pub async fn query(
        &self,
        collection: &str,
        vector: &[f32],
        k: usize,
        filter: Option<Value>,
    ) -> Result<Vec<(String, u64)>, Miss> {
        let mut body = json!({ "vector": vector, "k": k });
        if let Some(filter) = filter {
            body["filter"] = filter;
        }
        let answer = self.client.post(&format!("/v1/collections/{collection}/query"), &body).await;
        let body = whole(answer, true)?;
        let mut hits = Vec::new();
        let mut last = f64::NEG_INFINITY;
        for hit in list(&body, "matches")? {
            let (id, stamp) = points::stamp_of(hit).map_err(torn)?;
            let score =
                hit["score"].as_f64().ok_or_else(|| torn(format!("a hit without score: {hit}")))?;
            let right = points::squared_distance(&points::vector(stamp), vector);
            if (score - right).abs() > 1e-3 * right.max(1.0) {
                return Err(torn(format!(
                    "{id:?} has the score {score}, its vector is {right} away"
                )));
            }
            if score < last {
                return Err(torn(format!(
                    "{id:?} is nearer ({score}) than the hit before it ({last})"
                )));
            }
            last = score;
            hits.push((id, stamp));
        }
        Ok(hits)
    }

    /// Up to `limit` points, in the order of their ids.
    ///
    /// # Errors
    /// It was not answered, or with a point that no write makes.
    pub async fn fetch(&self, collection: &str, limit: usize) -> Result<Vec<(String, u64)>, Miss> {
        if self.is_quivers {
            // A search for more points than there are shows all of them.
            let mut found = self.query(collection, &points::vector(0), limit, None).await?;
            found.sort();
            return Ok(found);
        }
        let body = json!({ "limit": limit });
        let answer = self.client.post(&format!("/v1/collections/{collection}/fetch"), &body).await;
        let body = whole(answer, true)?;
        let mut found = Vec::new();
        for point in list(&body, "points")? {
            found.push(points::stamp_of(point).map_err(torn)?);
        }
        if let Some(pair) = found.windows(2).find(|pair| pair[0].0 > pair[1].0) {
            return Err(torn(format!("{:?} is before {:?}", pair[0].0, pair[1].0)));
        }
        Ok(found)
    }

    /// Points in the collection, as the router counts them.
    ///
    /// # Errors
    /// It was not answered.
    pub async fn count(&self, collection: &str) -> Result<u64, Miss> {
        if self.is_quivers {
            return Ok(self.fetch(collection, COUNTED_MAX).await?.len() as u64);
        }
        let answer = self.client.get(&format!("/v1/collections/{collection}")).await;
        let body = whole(answer, true)?;
        body["count"].as_u64().ok_or_else(|| torn(format!("no count: {body}")))
    }
}

/// An answer that contradicts itself. Begins with a word that the record looks for: it is no ordinary failure.
fn torn(why: String) -> Miss {
    Miss { unknown: true, why: format!("{TORN}: {why}") }
}

/// How the words of an answer begin that contradicts itself.
pub const TORN: &str = "torn";

fn list<'a>(body: &'a Value, name: &str) -> Result<&'a Vec<Value>, Miss> {
    body[name].as_array().ok_or_else(|| torn(format!("an answer without {name}: {body}")))
}

/// The body of a success. `single`: the request could not be applied in part.
fn whole(answer: Result<Answer, Gone>, single: bool) -> Result<Value, Miss> {
    let answer = answer.map_err(|gone| Miss { unknown: !gone.never_sent, why: gone.why })?;
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let unknown = match answer.status.as_u16() {
        // Nothing was applied to a refused item; of a batch, other items may have been.
        400..=499 | 501 | 503 => !single,
        _ => true,
    };
    Err(Miss { unknown, why: answer.to_string() })
}
