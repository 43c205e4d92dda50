//! Where a daemon's settings come from: defaults, a TOML file, `SHEAF_*` environment, flags, in rising precedence.
//!
//! A setting has one name: `--api-key`, `SHEAF_API_KEY` and `api_key` in the file are the same; a nested one is
//! `[autoscale] enabled` and `SHEAF_AUTOSCALE__ENABLED`. Every wrong setting stops the start with a sentence; nothing
//! is guessed. Never opens a socket or a data directory.

pub mod check;
pub mod settings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

pub use settings::{
    Common, CoordinatorSettings, EngineKind, LogFormat, ReplicaSettings, RouterSettings,
    ShardSettings,
};

/// What the operator commands read from the environment; a daemon isn't bothered by it.
const OPERATOR_NAMES: [&str; 2] = ["coordinator", "router"];

/// Settings that can't be used. Nothing was started.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SettingsError {
    #[error("{0}")]
    One(String),
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
}

/// A role's own settings, besides those that all roles have.
pub trait RoleSettings: Default + Serialize + DeserializeOwned {
    /// The word for it in messages.
    const ROLE: &'static str;
}

/// The settings of one daemon: what all have, and its own.
#[derive(Debug)]
pub struct Loaded<R> {
    pub common: Common,
    pub role: R,
}

/// Reads all layers.
///
/// `environment` is the process's; only names that begin with `SHEAF_` are looked at.
///
/// # Errors
/// A name that no role has, a value of the wrong kind, a file that can't be read.
pub fn load<R: RoleSettings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &impl Serialize,
) -> Result<Loaded<R>, SettingsError> {
    let defaults = defaults::<R>();
    let mut figment = Figment::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            SettingsError::One(format!("can't read the settings file {}: {error}", path.display()))
        })?;
        let layer = Figment::from(Toml::string(&text));
        let given: Dict = layer.extract().map_err(|error| explain(&error, path))?;
        refuse_unknown(&given, &defaults, R::ROLE, &path.display().to_string())?;
        figment = figment.merge(layer);
    }
    let environment = environment_layer(environment, &defaults)?;
    figment = figment.merge(Serialized::defaults(environment)).merge(Serialized::defaults(flags));
    let path = file.map(Path::to_path_buf).unwrap_or_else(|| PathBuf::from("the settings"));
    Ok(Loaded {
        common: figment.extract().map_err(|error| explain(&error, &path))?,
        role: figment.extract().map_err(|error| explain(&error, &path))?,
    })
}

/// Every setting of the role with its default: the list of what there is, and of what kind each is.
fn defaults<R: RoleSettings>() -> serde_json::Map<String, serde_json::Value> {
    let mut all = object(&Common::default());
    all.append(&mut object(&R::default()));
    all
}

fn object(settings: &impl Serialize) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    }
}

fn explain(error: &figment::Error, file: &Path) -> SettingsError {
    let name = error.path.join(".");
    let place = if name.is_empty() { String::new() } else { format!("the setting {name}: ") };
    SettingsError::One(format!("{place}{} (in {})", error.kind, file.display()))
}

fn refuse_unknown(
    given: &Dict,
    known: &serde_json::Map<String, serde_json::Value>,
    role: &str,
    source: &str,
) -> Result<(), SettingsError> {
    let unknown = given.keys().filter(|name| !known.contains_key(*name));
    let messages: Vec<String> = unknown
        .map(|name| {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            format!(
                "{source}: {name} is not a setting of a {role}; there are: {}",
                names.join(", ")
            )
        })
        .collect();
    if messages.is_empty() { Ok(()) } else { Err(SettingsError::Several(messages)) }
}

/// All names that any role or command has: the environment is shared by them.
fn names_of_all_roles() -> BTreeSet<String> {
    let roles = [
        object(&CoordinatorSettings::default()),
        object(&ShardSettings::default()),
        object(&ReplicaSettings::default()),
        object(&RouterSettings::default()),
    ];
    let names = roles.into_iter().flatten().map(|(name, _)| name);
    names.chain(OPERATOR_NAMES.map(str::to_owned)).collect()
}

fn environment_layer(
    environment: impl IntoIterator<Item = (String, String)>,
    defaults: &serde_json::Map<String, serde_json::Value>,
) -> Result<Dict, SettingsError> {
    let of_all_roles = names_of_all_roles();
    let mut layer = Dict::new();
    let mut messages = Vec::new();
    for (variable, text) in environment {
        let Some(name) = variable.strip_prefix("SHEAF_").map(str::to_ascii_lowercase) else {
            continue;
        };
        let (top, nested) = match name.split_once("__") {
            Some((top, nested)) => (top, Some(nested)),
            None => (name.as_str(), None),
        };
        let default = match nested {
            Some(nested) => defaults.get(top).and_then(|table| table.get(nested)),
            None => defaults.get(top).filter(|default| !default.is_object()),
        };
        let Some(default) = default else {
            if defaults.contains_key(top) || !of_all_roles.contains(top) {
                messages
                    .push(format!("the environment variable {variable} is no setting of Sheaf"));
            }
            continue;
        };
        match value_like(default, &text) {
            Ok(value) => insert(&mut layer, top, nested, value),
            Err(kind) => messages.push(format!(
                "the environment variable {variable} is {text:?}, which is not {kind}"
            )),
        }
    }
    if messages.is_empty() { Ok(layer) } else { Err(SettingsError::Several(messages)) }
}

fn insert(layer: &mut Dict, top: &str, nested: Option<&str>, value: Value) {
    let Some(nested) = nested else {
        layer.insert(top.to_owned(), value);
        return;
    };
    let table = layer.entry(top.to_owned()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, table) = table {
        table.insert(nested.to_owned(), value);
    }
}

/// The text as a value of the same kind as the default; lists are separated by blanks.
fn value_like(default: &serde_json::Value, text: &str) -> Result<Value, &'static str> {
    match default {
        serde_json::Value::Bool(_) => match text {
            "true" | "1" => Ok(Value::from(true)),
            "false" | "0" | "" => Ok(Value::from(false)),
            _ => Err("true or false"),
        },
        serde_json::Value::Number(_) => {
            text.parse::<u64>().map(Value::from).map_err(|_| "a whole number")
        }
        serde_json::Value::Array(_) => {
            Ok(Value::from(text.split_whitespace().map(Value::from).collect::<Vec<_>>()))
        }
        serde_json::Value::Null | serde_json::Value::String(_) | serde_json::Value::Object(_) => {
            Ok(Value::from(text))
        }
    }
}

/// A list that may also be given as one text.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    match OneOrMany::deserialize(deserializer) {
        Ok(OneOrMany::One(text)) => Ok(vec![text]),
        Ok(OneOrMany::Many(texts)) => Ok(texts),
        Err(_) => Err(serde::de::Error::custom("expected a text or a list of texts")),
    }
}
