//! From a path to what is meant by it. Ids and names are kept as they came too, for handing them on.
//!
//! Decides 404 and 405 for paths; never looks at a body.

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;

use crate::problem::Problem;

/// A segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    /// As it came, percent-encoded.
    pub raw: &'a str,
    pub text: Cow<'a, str>,
}

impl<'a> Segment<'a> {
    fn new(raw: &'a str) -> Result<Self, Problem> {
        let text = percent_decode_str(raw).decode_utf8().map_err(|_| {
            Problem::bad_request("the path is not percent-encoded UTF-8; nothing was applied")
        })?;
        Ok(Self { raw, text })
    }
}

/// What a request is about, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    ListCollections,
    CreateCollection,
    ShowCollection(Segment<'a>),
    DropCollection(Segment<'a>),
    Upsert(Segment<'a>),
    Bulk(Segment<'a>),
    Delete(Segment<'a>),
    Get(Segment<'a>, Segment<'a>),
    Query(Segment<'a>),
    Fetch(Segment<'a>),
    Count(Segment<'a>),
    Hybrid(Segment<'a>),
    /// What a router asks gates for a hybrid search.
    HybridStatistics(Segment<'a>),
    HybridLists(Segment<'a>),
    /// Points by their ids; a gate's own.
    GetPoints(Segment<'a>),
    UpsertDocuments(Segment<'a>),
    DeleteDocuments(Segment<'a>),
    QueryDocuments(Segment<'a>),
    Snapshot,
    /// Text, which a router's model makes vectors of.
    UpsertText(Segment<'a>),
    QueryText(Segment<'a>),
}

impl Target<'_> {
    /// The pattern of the path, for metrics.
    pub fn route(&self) -> &'static str {
        match self {
            Self::ListCollections | Self::CreateCollection => "/v1/collections",
            Self::ShowCollection(_) | Self::DropCollection(_) => "/v1/collections/{name}",
            Self::Upsert(_) | Self::Delete(_) => "/v1/collections/{name}/points",
            Self::Bulk(_) => "/v1/collections/{name}/points:bulk",
            Self::Get(..) => "/v1/collections/{name}/points/{id}",
            Self::Query(_) => "/v1/collections/{name}/query",
            Self::Fetch(_) => "/v1/collections/{name}/fetch",
            Self::Count(_) => "/v1/collections/{name}/count",
            Self::Hybrid(_) => "/v1/collections/{name}/query/hybrid",
            Self::HybridStatistics(_) => "/v1/collections/{name}/query/hybrid:statistics",
            Self::HybridLists(_) => "/v1/collections/{name}/query/hybrid:lists",
            Self::GetPoints(_) => "/v1/collections/{name}/points:get",
            Self::UpsertDocuments(_) | Self::DeleteDocuments(_) => {
                "/v1/collections/{name}/documents"
            }
            Self::QueryDocuments(_) => "/v1/collections/{name}/documents/query",
            Self::Snapshot => "/v1/snapshot",
            Self::UpsertText(_) => "/v1/collections/{name}/points:text",
            Self::QueryText(_) => "/v1/collections/{name}/query/text",
        }
    }
}

/// What the request `method path` means.
///
/// # Errors
/// 400: the path isn't UTF-8. 404: there is no such path. 405: not with this method.
pub(crate) fn target<'a>(method: &Method, path: &'a str) -> Result<Target<'a>, Problem> {
    let get = method == Method::GET;
    let post = method == Method::POST;
    let delete = method == Method::DELETE;
    let rest = path.strip_prefix("/v1/").ok_or_else(|| no_such_path(path))?;
    if rest == "snapshot" {
        return if post { Ok(Target::Snapshot) } else { Err(not_with(method, "POST")) };
    }
    let rest = match rest.strip_prefix("collections") {
        Some("") => {
            return match () {
                () if get => Ok(Target::ListCollections),
                () if post => Ok(Target::CreateCollection),
                () => Err(not_with(method, "GET, POST")),
            };
        }
        Some(rest) => rest.strip_prefix('/').ok_or_else(|| no_such_path(path))?,
        None => return Err(no_such_path(path)),
    };
    let (name, rest) = rest.split_once('/').map_or((rest, None), |(name, rest)| (name, Some(rest)));
    let name = Segment::new(name)?;
    let only = |allowed: bool, methods, target| {
        if allowed { Ok(target) } else { Err(not_with(method, methods)) }
    };
    match rest {
        None if delete => Ok(Target::DropCollection(name)),
        None => only(get, "GET, DELETE", Target::ShowCollection(name)),
        Some("points") if delete => Ok(Target::Delete(name)),
        Some("points") => only(post, "POST, DELETE", Target::Upsert(name)),
        Some("points:bulk") => only(post, "POST", Target::Bulk(name)),
        Some("query") => only(post, "POST", Target::Query(name)),
        Some("fetch") => only(post, "POST", Target::Fetch(name)),
        Some("count") => only(post, "POST", Target::Count(name)),
        Some("query/hybrid") => only(post, "POST", Target::Hybrid(name)),
        Some("query/hybrid:statistics") => only(post, "POST", Target::HybridStatistics(name)),
        Some("query/hybrid:lists") => only(post, "POST", Target::HybridLists(name)),
        Some("points:get") => only(post, "POST", Target::GetPoints(name)),
        Some("points:text") => only(post, "POST", Target::UpsertText(name)),
        Some("query/text") => only(post, "POST", Target::QueryText(name)),
        Some("documents") if delete => Ok(Target::DeleteDocuments(name)),
        Some("documents") => only(post, "POST, DELETE", Target::UpsertDocuments(name)),
        Some("documents/query") => only(post, "POST", Target::QueryDocuments(name)),
        Some(rest) => match rest.strip_prefix("points/") {
            Some(id) if !id.contains('/') => {
                let id = Segment::new(id)?;
                only(get, "GET", Target::Get(name, id))
            }
            Some(_) => Err(Problem::not_found(
                "an id with a slash must be percent-encoded in a path: write %2F for each slash",
            )),
            None => Err(no_such_path(path)),
        },
    }
}

fn no_such_path(path: &str) -> Problem {
    let mut shown: String = path.chars().take(200).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    Problem::not_found(format!("there is no path {shown}"))
}

fn not_with(method: &Method, allowed: &'static str) -> Problem {
    let detail = format!("{method} is not possible here; possible: {allowed}");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).with("allow", allowed)
}

/// The header that a 405 has to carry.
pub(crate) fn allow_header(problem: &Problem) -> Option<(header::HeaderName, HeaderValue)> {
    let allowed = problem.extensions.get("allow")?.as_str()?;
    Some((header::ALLOW, HeaderValue::from_str(allowed).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<Target<'_>, u16> {
        target(&Method::GET, path).map_err(|problem| problem.status.as_u16())
    }

    fn id_of(path: &str) -> (String, String) {
        match get(path) {
            Ok(Target::Get(_, id)) => (id.raw.to_owned(), id.text.into_owned()),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn any_id_can_be_named_in_a_path_and_is_kept_as_it_came() {
        for (raw, text) in [
            ("a", "a"),
            ("", ""),
            ("a%2Fb", "a/b"),
            ("doc%233", "doc#3"),
            ("%F0%9F%98%80", "😀"),
            ("100%25", "100%"),
            ("..", ".."),
            ("%2e%2e", ".."),
            ("a+b", "a+b"),
            ("%00", "\0"),
        ] {
            let path = format!("/v1/collections/words/points/{raw}");
            assert_eq!(id_of(&path), (raw.to_owned(), text.to_owned()));
        }
        assert_eq!(get("/v1/collections/words/points/%FF"), Err(400));
        assert_eq!(get("/v1/collections/words/points/a/b"), Err(404));
    }

    #[test]
    fn paths_and_methods_that_do_not_exist_say_so() {
        for path in ["/", "/v1", "/v1/collectionsx", "/v1/collections/a/b", "/v2/collections"] {
            assert_eq!(get(path), Err(404), "{path}");
        }
        let problem = target(&Method::PUT, "/v1/collections").unwrap_err();
        assert_eq!(problem.status, 405);
        assert_eq!(allow_header(&problem).unwrap().1, "GET, POST");
        assert_eq!(target(&Method::GET, "/v1/collections/a/query").unwrap_err().status, 405);
    }

    #[test]
    fn a_collections_name_may_need_decoding() {
        assert!(
            matches!(get("/v1/collections/a%20b"), Ok(Target::ShowCollection(name)) if name.text == "a b")
        );
    }
}
