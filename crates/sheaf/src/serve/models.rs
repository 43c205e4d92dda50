//! Which models a router asks, and how: over TLS, or in plain text to this machine.
//!
//! Decides which settings name a model. A key is never shown, and goes over no wire on which others could read it unless the
//! operator says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderValue;
use sheaf_http::models::{Model, Models};
use sheaf_transport::{HttpOptions, HyperTransport, Transport, tls};

use super::engine::is_local;
use crate::config::check::Complaints;
use crate::config::{Common, RouterSettings};

/// The models that the settings name.
pub fn models(
    common: &Common,
    settings: &RouterSettings,
    complaints: &mut Complaints,
) -> Option<Models> {
    let embedding = Kind {
        name: "embedding",
        example: "/v1/embeddings",
        list: &settings.embedding,
        key: settings.embedding_key.as_deref(),
    };
    let reranker = Kind {
        name: "reranker",
        example: "/v1/rerank",
        list: &settings.reranker,
        key: settings.reranker_key.as_deref(),
    };
    let (of_embedding, of_reranker) = (embedding.read(complaints), reranker.read(complaints));
    let places = || of_embedding.iter().chain(&of_reranker).map(|(_, place)| place);
    for place in places() {
        place.check_wire(common, complaints);
    }
    let has_tls = places().any(|place| place.is_tls());
    if settings.model_ca.is_some() && !has_tls {
        complaints
            .add("model_ca is for TLS; write https://… in embedding or reranker, or leave it out");
    }
    let transport: Arc<dyn Transport> = if has_tls {
        match tls::client(settings.model_ca.as_deref()) {
            Ok(tls) => Arc::new(HyperTransport::with_tls(HttpOptions::default(), Arc::new(tls))),
            Err(error) => {
                complaints.add(format!("model_ca: {error}"));
                return None;
            }
        }
    } else {
        Arc::new(HyperTransport::new(HttpOptions::default()))
    };
    Some(Models {
        embedding: embedding.models(of_embedding, &transport, complaints)?,
        reranking: reranker.models(of_reranker, &transport, complaints)?,
    })
}

/// One of the lists of models.
struct Kind<'a> {
    /// Of the setting.
    name: &'a str,
    /// The path of such an API.
    example: &'a str,
    list: &'a [String],
    key: Option<&'a str>,
}

/// Where a model is.
struct Place<'a> {
    model: &'a str,
    url: &'a str,
}

impl<'a> Kind<'a> {
    /// The collections, and where the model of each is.
    fn read(&self, complaints: &mut Complaints) -> Vec<(&'a str, Place<'a>)> {
        let mut places: Vec<(&str, Place)> = Vec::new();
        for text in self.list {
            let Some((collection, place)) = Place::of(text) else {
                // Not shown: there may be a secret in it.
                complaints.add(format!(
                    "{name} number {number} can't be understood; give COLLECTION=MODEL@https://HOST[:PORT]{path} (or http://…), without a user \
                     or a password, and the key as {name}_key",
                    name = self.name,
                    number = self.list.iter().position(|other| other == text).unwrap_or_default() + 1,
                    path = self.example,
                ));
                continue;
            };
            if places.iter().any(|(other, _)| *other == collection) {
                complaints.add(format!("{} names the collection {collection:?} twice", self.name));
            }
            places.push((collection, place));
        }
        places
    }

    fn models(
        &self,
        places: Vec<(&str, Place)>,
        transport: &Arc<dyn Transport>,
        complaints: &mut Complaints,
    ) -> Option<BTreeMap<String, Model>> {
        let key = self.key.map(|key| HeaderValue::from_str(&format!("Bearer {key}")));
        let Ok(mut authorization) = key.transpose() else {
            complaints
                .add(format!("{}_key can't be sent in a header; use visible ASCII", self.name));
            return None;
        };
        if let Some(header) = &mut authorization {
            header.set_sensitive(true);
        }
        let model = |place: Place| Model {
            name: place.model.to_owned(),
            url: place.url.to_owned(),
            authorization: authorization.clone(),
            transport: Arc::clone(transport),
        };
        Some(places.into_iter().map(|(of, place)| (of.to_owned(), model(place))).collect())
    }
}

impl<'a> Place<'a> {
    fn of(text: &'a str) -> Option<(&'a str, Self)> {
        let (collection, rest) = text.split_once('=')?;
        let (model, url) = rest.rsplit_once('@')?;
        let parsed = reqwest::Url::parse(url).ok()?;
        let is_web = matches!(parsed.scheme(), "http" | "https") && parsed.host_str().is_some();
        let is_bare = parsed.username().is_empty() && parsed.password().is_none();
        let is_named = !collection.is_empty() && !model.is_empty();
        (is_web && is_bare && is_named).then_some((collection, Self { model, url }))
    }

    fn is_tls(&self) -> bool {
        reqwest::Url::parse(self.url).is_ok_and(|url| url.scheme() == "https")
    }

    /// Texts and keys are secrets.
    fn check_wire(&self, common: &Common, complaints: &mut Complaints) {
        let is_open = !self.is_tls() && !is_local(self.url);
        if is_open && !(common.insecure && common.i_know) {
            complaints.add(format!(
                "the model {} at {} is on another machine, and what is said to it isn't encrypted: texts and the key would be readable on \
                 the wire; write https://…, or type --insecure --i-know if the network is yours alone (keys are still asked for)",
                self.model, self.url
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &RouterSettings, common: &Common) -> String {
        let mut complaints = Complaints::default();
        let models = models(common, settings, &mut complaints);
        complaints.or(models).map_or_else(|error| error.to_string(), |models| format!("{models:?}"))
    }

    fn settings(embedding: &[&str], reranker: &[&str]) -> RouterSettings {
        let list = |of: &[&str]| of.iter().map(|text| (*text).to_owned()).collect();
        RouterSettings {
            embedding: list(embedding),
            reranker: list(reranker),
            embedding_key: Some("hush".to_owned()),
            reranker_key: Some("hush".to_owned()),
            ..RouterSettings::default()
        }
    }

    #[test]
    fn a_model_is_named_by_collection_name_and_url_and_its_key_is_never_shown() {
        let plain = Common::default();
        let one = "docs=hf.co/a@b:1@http://127.0.0.1:11434/v1/embeddings";
        let far = "docs=m@https://10.0.0.1/v1/rerank";
        let shown = said(&settings(&[one], &[far]), &plain);
        for part in ["hf.co/a@b:1 at http://127.0.0.1", "m at https://10.0.0.1"] {
            assert!(shown.contains(part) && !shown.contains("hush"), "{shown}");
        }
        for wrong in [
            "docs",
            "docs=m",
            "=m@http://h/v1",
            "docs=@http://h/v1",
            "docs=m@ftp://h/v1",
            "docs=m@http://u:hush@h/v1",
            "docs=m@http://:hush@h/v1",
        ] {
            for wrong in [settings(&[wrong], &[]), settings(&[], &[wrong])] {
                let said = said(&wrong, &plain);
                assert!(said.contains("COLLECTION=MODEL@") && !said.contains("hush"), "{said}");
            }
        }
        assert!(said(&settings(&[one, one], &[]), &plain).contains("embedding names"));
        assert!(said(&settings(&[], &[far, far]), &plain).contains("reranker names"));
        for key in ["embedding_key", "reranker_key"] {
            let wrong = Some("a\nb".to_owned());
            let mut settings = settings(&[], &[]);
            match key {
                "embedding_key" => settings.embedding_key = wrong,
                _ => settings.reranker_key = wrong,
            }
            assert!(said(&settings, &plain).contains(key));
        }
    }

    #[test]
    fn texts_and_keys_go_over_no_open_wire_unless_the_operator_knows() {
        let known = Common { insecure: true, i_know: true, ..Common::default() };
        let far = settings(&[], &["docs=m@http://10.0.0.1/v1/rerank"]);
        assert!(said(&far, &Common::default()).contains("isn't encrypted"));
        assert!(said(&far, &known).contains("m at http://10.0.0.1"));
        let mut needless = settings(&["docs=m@http://127.0.0.1/v1/embeddings"], &[]);
        needless.model_ca = Some("ca.pem".into());
        assert!(said(&needless, &known).contains("model_ca is for TLS"));
        let mut missing = settings(&["docs=m@https://127.0.0.1/v1/embeddings"], &[]);
        missing.model_ca = Some("/none/ca.pem".into());
        assert!(said(&missing, &known).contains("/none/ca.pem"));
    }
}
