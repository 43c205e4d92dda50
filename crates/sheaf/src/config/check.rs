//! Whether settings make sense together: each that doesn't gives one sentence, and nothing is started.
//!
//! Decides what is too dangerous to start with. Never opens a socket; key files are the only thing that it reads.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sheaf_http::auth::Keys;
use sheaf_types::ShardId;

use super::SettingsError;
use super::settings::{Common, CoordinatorSettings, LogFormat};

/// Milliseconds that a fence may be allowed to last; the coordinator takes no other either.
const FENCE_BUDGET_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

/// Seconds for which a leader may lead on that is gone: below two, etcd makes it longer by itself.
const LEASE_SECS: std::ops::RangeInclusive<u32> = 2..=60;

/// What every daemon needs, checked.
#[derive(Debug)]
pub struct Checked {
    pub listen: SocketAddr,
    pub keys: Keys,
    pub peer_key: Option<String>,
    pub log: LogFormat,
    pub log_level: String,
}

/// Collects complaints, so that a person sees all of them at once.
#[derive(Default)]
pub struct Complaints(Vec<String>);

impl Complaints {
    pub fn add(&mut self, complaint: impl Into<String>) {
        self.0.push(complaint.into());
    }

    /// The value, when there is no complaint.
    ///
    /// # Errors
    /// There are complaints.
    pub fn or<T>(self, value: Option<T>) -> Result<T, SettingsError> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(SettingsError::Several(self.0)),
        }
    }
}

/// Checks what all roles have.
pub fn common(common: &Common, listen: &str, complaints: &mut Complaints) -> Option<Checked> {
    let listen = address(listen, complaints);
    let keys = keys(common, complaints);
    if let Some(listen) = listen
        && !listen.ip().is_loopback()
    {
        check_exposed(common, listen, complaints);
    }
    if let Err(error) = common.log_level.parse::<tracing_subscriber::EnvFilter>() {
        complaints.add(format!("log_level {:?} is no filter: {error}", common.log_level));
    }
    Some(Checked {
        listen: listen?,
        keys: keys?,
        peer_key: common.peer_key.clone(),
        log: common.log,
        log_level: common.log_level.clone(),
    })
}

fn address(text: &str, complaints: &mut Complaints) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        complaints.add(format!(
            "listen is {text:?}, which is no address; give IP:PORT, e.g. 127.0.0.1:7600 or [::1]:0"
        ));
    }
    parsed
}

fn keys(common: &Common, complaints: &mut Complaints) -> Option<Keys> {
    let mut described = common.api_keys.clone();
    if let Some(file) = &common.api_key_file {
        described.extend(keys_of_file(file, complaints)?);
    }
    match (described.is_empty() && common.peer_key.is_none(), common.insecure) {
        (true, true) => return Some(Keys::open()),
        (true, false) => {
            complaints.add(
                "nobody could be told apart: give --api-key KEY and --peer-key KEY (the same peer key to all \
                 daemons of the cluster), or --insecure to let everybody on this machine do everything",
            );
            return None;
        }
        (false, _) => {}
    }
    if described.is_empty() {
        complaints.add(
            "there is a peer key but no --api-key, so no client could do anything; give at least one, e.g. \
             --api-key KEY:admin",
        );
        return None;
    }
    if common.peer_key.is_none() {
        complaints.add(
            "there are API keys but no --peer-key, so the daemons could not prove who they are to each other; \
             give the same one to all of them",
        );
        return None;
    }
    match Keys::closed(described.iter().map(String::as_str), common.peer_key.as_deref()) {
        Ok(keys) => Some(keys),
        Err(error) => {
            complaints.add(error.to_string());
            None
        }
    }
}

fn keys_of_file(file: &Path, complaints: &mut Complaints) -> Option<Vec<String>> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            complaints.add(format!("can't read the key file {}: {error}", file.display()));
            return None;
        }
    };
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let keys: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if keys.is_empty() {
        complaints.add(format!(
            "the key file {} has no key; write KEY[:role[:collections]], one a line",
            file.display()
        ));
        return None;
    }
    Some(keys)
}

fn check_exposed(common: &Common, listen: SocketAddr, complaints: &mut Complaints) {
    match (common.insecure, common.i_know) {
        (true, true) => {}
        (true, false) => complaints.add(format!(
            "--insecure on {listen} lets other machines read and change everything, or read the keys on the \
             wire; type --i-know too if the network is yours alone"
        )),
        (false, _) => complaints.add(format!(
            "{listen} can be reached by other machines, and Sheaf doesn't encrypt yet: keys and points would \
             be readable on the wire; listen on a loopback address behind a TLS proxy, or type --insecure \
             --i-know if the network is yours alone (keys are still asked for)"
        )),
    }
}

/// Checks a URL of another node: `http://HOST[:PORT]`, nothing behind it.
pub fn node_url(name: &str, text: &str, complaints: &mut Complaints) -> Option<String> {
    match crate::client::base_url(text) {
        Ok(url) => Some(url),
        Err(why) => {
            complaints.add(format!("{name}: {why}"));
            None
        }
    }
}

/// Checks a list of URLs, none twice.
pub fn node_urls(name: &str, texts: &[String], complaints: &mut Complaints) -> Vec<String> {
    let mut urls = Vec::new();
    for text in texts {
        let Some(url) = node_url(name, text, complaints) else { continue };
        if urls.contains(&url) {
            complaints.add(format!("{name}: {url} is given twice"));
        } else {
            urls.push(url);
        }
    }
    urls
}

/// The data directory: it must be named, there is no default that could be the wrong disk.
pub fn data_dir(given: Option<&PathBuf>, complaints: &mut Complaints) -> Option<PathBuf> {
    if given.is_none() {
        complaints.add("data_dir is not set; say where to keep the data with --data-dir DIR");
    }
    given.cloned()
}

/// The coordinators: without one, a daemon would never know the map.
pub fn coordinators(given: &[String], complaints: &mut Complaints) -> Vec<String> {
    if given.is_empty() {
        complaints.add("no coordinator is given; add --coordinator URL");
    }
    node_urls("coordinator", given, complaints)
}

/// A fence must last longer than a fsync, and no longer than a client waits.
pub fn lease(secs: u32, complaints: &mut Complaints) {
    if !LEASE_SECS.contains(&secs) {
        let (least, most) = (LEASE_SECS.start(), LEASE_SECS.end());
        complaints.add(format!("lease_secs is {secs}; give {least} to {most} seconds"));
    }
}

/// Where the other coordinators reach this one; `None`: where it listens.
pub fn advertised(
    settings: &CoordinatorSettings,
    listen: Option<SocketAddr>,
    complaints: &mut Complaints,
) -> Option<String> {
    match &settings.advertise {
        Some(url) => crate::client::base_url(url)
            .map_err(|why| complaints.add(format!("advertise: {why}")))
            .ok(),
        None => {
            let is_anywhere = listen.is_some_and(|listen| listen.ip().is_unspecified());
            if is_anywhere && settings.store.is_some() {
                complaints.add(
                    "it listens on every address, and other coordinators must know one of them: add --advertise http://HOST:PORT",
                );
            }
            None
        }
    }
}

pub fn fence_budget(ms: u64, complaints: &mut Complaints) {
    if !FENCE_BUDGET_MS.contains(&ms) {
        let (least, most) = (FENCE_BUDGET_MS.start(), FENCE_BUDGET_MS.end());
        complaints.add(format!("fence_budget_ms is {ms}; give {least} to {most} milliseconds"));
    }
}

/// `<shard id>=<url>` of each replica.
pub fn replicas(
    settings: &CoordinatorSettings,
    complaints: &mut Complaints,
) -> Vec<(ShardId, String)> {
    let mut replicas = Vec::new();
    for text in &settings.replicas {
        let parts = text.split_once('=').and_then(|(id, url)| Some((id.trim().parse().ok()?, url)));
        let Some((id, url)) = parts else {
            complaints.add(format!(
                "replica {text:?} is malformed; write <shard id>=<url>, e.g. 1=http://10.0.0.9:7700"
            ));
            continue;
        };
        if let Some(url) = node_url("replica", url, complaints) {
            replicas.push((ShardId(id), url));
        }
    }
    replicas
}

/// Settings of the autoscaler that could never act, or would act against each other.
pub fn autoscale(settings: &CoordinatorSettings, complaints: &mut Complaints) {
    let autoscale = &settings.autoscale;
    if !autoscale.enabled {
        return;
    }
    if autoscale.high_water_points == 0 && autoscale.low_water_points == 0 {
        complaints.add(
            "autoscale is enabled but both its marks are 0, so it would never act; set high_water_points",
        );
    }
    if autoscale.high_water_points > 0
        && autoscale.low_water_points * 2 > autoscale.high_water_points
    {
        complaints.add(
            "autoscale's low_water_points is more than half of high_water_points: it would drain what it just \
             grew; lower it",
        );
    }
    node_urls("autoscale.standby_urls", &autoscale.standby_urls, complaints);
    if autoscale.interval_secs == 0 {
        complaints.add("autoscale's interval_secs is 0; it must look at least 1 second apart");
    }
    if autoscale.max_shards > 0 && autoscale.min_shards > autoscale.max_shards {
        complaints.add("autoscale's min_shards is above its max_shards");
    }
}
