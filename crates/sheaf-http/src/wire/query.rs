//! Searches, fetches and counts.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sheaf_engines::Filter;
use sheaf_types::PointId;
use sheaf_types::limits::{EF_SEARCH_MAX, FETCH_POINTS_MAX, K_MAX};

use super::numbers::numbers;
use super::point::Shown;
use crate::problem::Problem;

/// `POST …/query`.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub vector: Vec<f32>,
    /// As it came.
    pub vector_json: Bytes,
    pub k: usize,
    filter: Option<Value>,
    pub ef_search: usize,
    with_payload: bool,
    with_vector: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryBody<'a> {
    #[serde(borrow)]
    vector: &'a RawValue,
    #[serde(default = "default_k")]
    k: usize,
    #[serde(default)]
    filter: Option<Value>,
    #[serde(default = "default_ef")]
    ef_search: usize,
    #[serde(default = "yes")]
    with_payload: bool,
    #[serde(default)]
    with_vector: bool,
}

/// `POST …/fetch`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    #[serde(default)]
    filter: Option<Value>,
    #[serde(default)]
    pub offset: usize,
    #[serde(default = "default_k")]
    pub limit: usize,
    #[serde(default = "yes")]
    with_payload: bool,
    #[serde(default)]
    with_vector: bool,
    /// Sheaf's own: start behind this id, whether it exists or not.
    #[serde(default)]
    pub after: Option<PointId>,
}

/// `POST …/count`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    #[serde(default)]
    filter: Option<Value>,
}

pub(super) fn default_k() -> usize {
    10
}

pub(super) fn default_ef() -> usize {
    64
}

pub(super) fn yes() -> bool {
    true
}

impl Query {
    /// # Errors
    /// 400: the body is no search, or over a limit.
    pub fn read(body: &Bytes) -> Result<Self, Problem> {
        const FORM: &str = r#"{"vector": [number], "k"?: number, "filter"?: object, …}"#;
        let read: QueryBody<'_> = read(body, FORM)?;
        within("k", read.k, K_MAX)?;
        within("ef_search", read.ef_search, EF_SEARCH_MAX)?;
        let vector = numbers(read.vector)
            .map_err(|error| Problem::bad_request(format!("the body must be {FORM}: {error}")))?;
        let QueryBody { k, filter, ef_search, with_payload, with_vector, .. } = read;
        let vector_json = body.slice_ref(read.vector.get().as_bytes());
        Ok(Self { vector, vector_json, k, filter, ef_search, with_payload, with_vector })
    }

    /// # Errors
    /// 400: the filter is none.
    pub fn filter(&self) -> Result<Option<Filter>, Problem> {
        filter(self.filter.as_ref())
    }

    pub fn shown(&self) -> Shown {
        Shown { payload: self.with_payload, vector: self.with_vector }
    }
}

impl Fetch {
    /// # Errors
    /// 400: the body is no fetch, or over a limit.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let fetch: Self =
            read(body, r#"{"filter"?: object, "offset"?: number, "limit"?: number, …}"#)?;
        within("limit", fetch.limit, FETCH_POINTS_MAX)?;
        Ok(fetch)
    }

    /// # Errors
    /// 400: the filter is none.
    pub fn filter(&self) -> Result<Option<Filter>, Problem> {
        filter(self.filter.as_ref())
    }

    pub fn shown(&self) -> Shown {
        Shown { payload: self.with_payload, vector: self.with_vector }
    }
}

impl Count {
    /// An empty body counts everything.
    ///
    /// # Errors
    /// 400: the body is no count.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        if body.is_empty() { Ok(Self::default()) } else { read(body, r#"{"filter"?: object}"#) }
    }

    /// # Errors
    /// 400: the filter is none.
    pub fn filter(&self) -> Result<Option<Filter>, Problem> {
        filter(self.filter.as_ref())
    }
}

pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8], form: &str) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request(format!("the body must be {form}: {error}")))
}

pub(super) fn within(name: &str, given: usize, limit: usize) -> Result<(), Problem> {
    if given <= limit {
        return Ok(());
    }
    Err(Problem::bad_request(format!("{name} is {given}, the limit is {limit}; ask for less")))
}

pub(super) fn filter(value: Option<&Value>) -> Result<Option<Filter>, Problem> {
    let filter = value.filter(|value| !value.is_null()).map(Filter::from_json).transpose();
    filter.map_err(|error| Problem::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_the_documented_defaults() {
        let query = Query::read(&Bytes::from_static(br#"{"vector": [0.5, 1]}"#)).unwrap();
        assert_eq!((query.k, query.ef_search, query.filter()), (10, 64, Ok(None)));
        assert_eq!(query.shown(), Shown { payload: true, vector: false });
        let fetch = Fetch::read(b"{}").unwrap();
        assert_eq!((fetch.offset, fetch.limit, fetch.filter()), (0, 10, Ok(None)));
        assert_eq!(fetch.shown(), Shown { payload: true, vector: false });
        assert_eq!(Count::read(b"").unwrap(), Count::read(b"{\"filter\": null}").unwrap());
    }

    #[test]
    fn limits_and_forms_are_checked() {
        for (body, right) in [
            (r#"{"vector": [1], "k": 10000, "ef_search": 4096}"#, true),
            (r#"{"vector": [1], "k": 10001}"#, false),
            (r#"{"vector": [1], "ef_search": 4097}"#, false),
            (r#"{"vector": [1], "k": -1}"#, false),
            (r#"{"k": 1}"#, false),
            ("", false),
        ] {
            assert_eq!(Query::read(&Bytes::from_static(body.as_bytes())).is_ok(), right, "{body}");
        }
        assert!(Fetch::read(br#"{"limit": 10001}"#).is_err());
        let query =
            Query::read(&Bytes::from_static(br#"{"vector": [1], "filter": {"nonsense": 1}}"#))
                .unwrap();
        assert_eq!(query.filter().unwrap_err().status, 400);
        let count = Count::read(br#"{"filter": {"exists": {"field": "a"}}}"#).unwrap();
        assert_eq!(count.filter().unwrap(), Some(Filter::Exists { field: "a".to_owned() }));
    }
}
