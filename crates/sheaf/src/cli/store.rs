//! `sheaf store`: a coordinator's record as a file, for backups and to move it between a folder and etcd.
//!
//! Decides what may replace what: a record that is there is replaced only when that is said.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use sheaf_coordinator::CoordinatorRecord;
use sheaf_runtime::coordinator::read_record;
use sheaf_stores::{Etag, Loaded, StoreOutcome, file};

use crate::client::Failure;
use crate::config::Common;
use crate::config::check::Complaints;
use crate::output;
use crate::serve::store::{Place, place, read_file};
use crate::serve::{PlaceFlags, usage};

/// Where the record of a coordinator goes, and where it comes from.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Write the record into a file, with a checksum: a backup. Coordinators may be running
    Export(FileArgs),
    /// Store the record of such a file. No coordinator may be running
    Import(ImportArgs),
    /// Say what is stored, and whether it is whole. Coordinators may be running
    Check(CheckArgs),
}

#[derive(Clone, Debug, Args)]
struct FileArgs {
    /// The file
    file: PathBuf,
    #[command(flatten)]
    from: Where,
}

#[derive(Clone, Debug, Args)]
struct ImportArgs {
    /// The file
    file: PathBuf,
    #[command(flatten)]
    to: Where,
    /// Also in place of a record that is there, which is lost then
    #[arg(long)]
    replace: bool,
}

#[derive(Clone, Debug, Args)]
struct CheckArgs {
    /// A file of `sheaf store export`, instead of a store
    file: Option<PathBuf>,
    #[command(flatten)]
    of: Where,
}

/// A store, as a coordinator's flags and environment name it.
#[derive(Clone, Debug, Args)]
struct Where {
    #[command(flatten)]
    place: PlaceFlags,
    /// With --i-know: etcd on another machine may be spoken to without TLS
    #[arg(long)]
    insecure: bool,
    /// See --insecure
    #[arg(long)]
    i_know: bool,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

impl Where {
    fn place(&self) -> Result<Place, Failure> {
        let settings = self.place.settings()?;
        let common = Common { insecure: self.insecure, i_know: self.i_know, ..Common::default() };
        let mut complaints = Complaints::default();
        let place = place(&common, &settings, &mut complaints);
        complaints.or(place).map_err(usage)
    }
}

/// What a record says of itself.
#[derive(Debug, Serialize)]
struct Summary {
    cluster_id: String,
    map_version: u64,
    term: u64,
    revision: u64,
    shards: usize,
    collections: usize,
    transition: Option<u64>,
    bytes: usize,
}

impl Summary {
    fn of(loaded: &Loaded) -> Result<Self, Failure> {
        let record: CoordinatorRecord =
            read_record(&loaded.bytes).map_err(|error| Failure::Failed(error.to_string()))?;
        Ok(Self {
            cluster_id: record.map.cluster_id().to_string(),
            map_version: record.map.version().0,
            term: record.term.0,
            revision: record.revision.0,
            shards: record.map.shards().len(),
            collections: record.map.collections().len(),
            transition: record.transition.as_ref().map(|running| running.id.0),
            bytes: loaded.bytes.len(),
        })
    }

    fn human(&self) -> String {
        let Self { cluster_id, map_version, term, revision, shards, collections, bytes, .. } = self;
        let transition = match self.transition {
            None => "no transition runs".to_owned(),
            Some(id) => format!("transition {id} runs"),
        };
        format!(
            "cluster {cluster_id}: map {map_version}, term {term}, revision {revision}; {shards} shards, {collections} \
             collections, {transition}; {bytes} bytes, whole"
        )
    }
}

/// Whether failures are written as JSON.
pub fn wants_json(args: &StoreArgs) -> bool {
    match &args.what {
        What::Export(args) => args.from.json,
        What::Import(args) => args.to.json,
        What::Check(args) => args.of.json,
    }
}

pub async fn run(args: &StoreArgs) -> Result<(), Failure> {
    match &args.what {
        What::Export(args) => export(args).await,
        What::Import(args) => import(args).await,
        What::Check(args) => check(args).await,
    }
}

async fn export(args: &FileArgs) -> Result<(), Failure> {
    let loaded = args.from.place()?.read().await.map_err(failed)?.ok_or_else(empty)?;
    let summary = Summary::of(&loaded)?;
    write_new(&args.file, &file::encode(loaded.etag, &loaded.bytes))?;
    // What can't be read back is no backup.
    let back = read_file(&args.file).map_err(failed)?;
    if back.as_ref() != Some(&loaded) {
        let file = args.file.display();
        return Err(Failure::Failed(format!(
            "{file} is not what was written to it; don't rely on it"
        )));
    }
    let file = args.file.display().to_string();
    output::answer(args.from.json, &summary, |summary| format!("{file}: {}", summary.human()))
}

async fn import(args: &ImportArgs) -> Result<(), Failure> {
    let place = args.to.place()?;
    let missing = || Failure::Failed(format!("there is no file {}", args.file.display()));
    let new = read_file(&args.file).map_err(failed)?.ok_or_else(missing)?;
    let summary = Summary::of(&new)?;
    let store = place.write().await.map_err(failed)?;
    let present = match store.load().await {
        Ok(present) => present,
        Err(error) => return Err(failed(error)),
    };
    let expected: Option<Etag> = present.as_ref().map(|present| present.etag);
    if let Some(present) = &present
        && !args.replace
    {
        let there =
            Summary::of(present).map_or_else(|what| what.to_string(), |known| known.human());
        return Err(Failure::Failed(format!(
            "there is a record already ({there}); nothing was changed. With --replace it is lost; if it is newer than the file, \
             shards that have followed it will refuse the older one"
        )));
    }
    match store.compare_and_set(expected, new.bytes).await {
        StoreOutcome::Done(_) => {
            output::answer(args.to.json, &summary, |summary| format!("stored: {}", summary.human()))
        }
        StoreOutcome::Refused => Err(Failure::Failed(
            "somebody else has stored a record meanwhile; nothing was changed".to_owned(),
        )),
        StoreOutcome::NotStored { reason } => {
            Err(Failure::Failed(format!("{reason}; nothing was changed")))
        }
        StoreOutcome::Unknown { reason } => Err(Failure::Unknown(format!(
            "{reason}; look with `sheaf store check` before anything else"
        ))),
    }
}

async fn check(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = match &args.file {
        Some(file) => read_file(file).map_err(failed)?,
        None => args.of.place()?.read().await.map_err(failed)?,
    };
    let summary = Summary::of(&loaded.ok_or_else(empty)?)?;
    output::answer(args.of.json, &summary, Summary::human)
}

/// Writes a file that isn't there yet: a backup never takes the place of another one.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    let failed = |error: std::io::Error| {
        let path = path.display();
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::Failed(format!(
                "{path} is there already; nothing was written, give another name"
            )),
            _ => Failure::Failed(format!("{path} can't be written: {error}")),
        }
    };
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

fn empty() -> Failure {
    Failure::Failed("there is no record there".to_owned())
}
