//! `sheaf router`: checks its settings, puts its parts together, serves until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderValue;
use sheaf_http::embedding::{Model, Models};
use sheaf_http::router::{Coordinators, RouterParts, router};
use sheaf_runtime::router::{KeeperOptions, RouterHost};
use sheaf_runtime::{Clock, entropy};
use sheaf_transport::HyperTransport;
use tracing::info;

use super::{RouterFlags, listen};
use crate::client::Failure;
use crate::config::RouterSettings;
use crate::config::check::{self, Complaints};

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't be used, or it can't start.
pub async fn run(flags: &RouterFlags) -> Result<(), Failure> {
    let loaded = super::settings::<RouterSettings>(flags.common.config.as_deref(), flags)?;
    let mut complaints = Complaints::default();
    let checked = check::common(&loaded.common, &loaded.role.listen, &mut complaints);
    let coordinators = check::coordinators(&loaded.role.coordinators, &mut complaints);
    let models = models(&loaded.role, &mut complaints);
    let (checked, models) = complaints.or(checked.zip(models)).map_err(super::usage)?;
    crate::logging::start(checked.log, &checked.log_level);
    let listener = listen::bind(checked.listen).await?;
    let transport = Arc::new(HyperTransport::new(sheaf_transport::HttpOptions::default()));
    let peer_key = checked.peer_key;
    let coordinators = Coordinators::new(transport.clone(), &coordinators, peer_key.as_deref());
    let coordinators = coordinators.map_err(super::failed)?;
    let source = Arc::new(coordinators.clone());
    let (host, keeper) =
        RouterHost::new(Clock::system(), source, KeeperOptions::default(), entropy::seed());
    let keeper = tokio::spawn(keeper);
    let routes =
        router(RouterParts { host, transport, coordinators, keys: checked.keys, peer_key, models });
    let routes = routes.map_err(super::failed)?;
    listen::announce(&listener)?;
    tokio::spawn(sheaf_http::metrics::upkeep());
    let until = std::future::pending();
    listen::serve(listener, routes, flags.common.exit_with_stdin, until, || keeper.abort()).await?;
    info!("stopped");
    Ok(())
}

/// The embedding models that the settings name.
fn models(settings: &RouterSettings, complaints: &mut Complaints) -> Option<Models> {
    let key = settings.embedding_key.as_deref();
    let authorization = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}")));
    let Ok(mut authorization) = authorization.transpose() else {
        complaints.add("embedding_key can't be sent in a header; use visible ASCII");
        return None;
    };
    if let Some(header) = &mut authorization {
        header.set_sensitive(true);
    }
    let mut models = BTreeMap::new();
    for text in &settings.embedding {
        let parts = text.split_once('=').and_then(|(collection, rest)| {
            let (name, url) = rest.rsplit_once('@')?;
            let is_http = reqwest::Url::parse(url).is_ok_and(|url| {
                url.scheme() == "http" && url.host_str().is_some() && url.username().is_empty()
            });
            (is_http && !collection.is_empty() && !name.is_empty())
                .then_some((collection, name, url))
        });
        let Some((collection, name, url)) = parts else {
            complaints.add(format!(
                "embedding is {text:?}; give COLLECTION=MODEL@http://HOST:PORT/v1/embeddings (a server with TLS is reached through a tunnel on a \
                 loopback address)"
            ));
            continue;
        };
        let (name, url) = (name.to_owned(), url.to_owned());
        let model = Model { name, url, authorization: authorization.clone() };
        if models.insert(collection.to_owned(), model).is_some() {
            complaints.add(format!("embedding names the collection {collection:?} twice"));
        }
    }
    Some(Models::new(models))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(embedding: &[&str], key: Option<&str>) -> String {
        let settings = RouterSettings {
            embedding: embedding.iter().map(|text| (*text).to_owned()).collect(),
            embedding_key: key.map(str::to_owned),
            ..RouterSettings::default()
        };
        let mut complaints = Complaints::default();
        let models = models(&settings, &mut complaints);
        complaints.or(models).map_or_else(|error| error.to_string(), |models| format!("{models:?}"))
    }

    #[test]
    fn a_model_is_named_by_collection_name_and_url_and_its_key_is_never_shown() {
        let one = "docs=hf.co/a@b:1@http://127.0.0.1:11434/v1/embeddings";
        let shown = said(&[one], Some("hush"));
        assert!(
            shown.contains("hf.co/a@b:1@http://127.0.0.1") && !shown.contains("hush"),
            "{shown}"
        );
        for wrong in
            ["docs", "docs=m", "=m@http://h/v1", "docs=@http://h/v1", "docs=m@https://h/v1"]
        {
            assert!(said(&[wrong], None).contains("COLLECTION=MODEL@"), "{wrong}");
        }
        assert!(said(&[one, one], None).contains("twice"));
        assert!(said(&[], Some("a\nb")).contains("embedding_key"));
    }
}
