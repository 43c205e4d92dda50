//! A copy of a whole shard: its engine's data, and what beside that makes it this shard.
//!
//! Decides whether a copy can be trusted: it is made at one version of the map, while no transition runs here.

use std::path::{Path, PathBuf};

use sheaf_engines::EngineError;
use sheaf_types::{MapVersion, ShardId};

use super::GateHost;

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub version: MapVersion,
    /// Where the copied data directory is; a shard can be started on it.
    pub data_dir: PathBuf,
    /// Where the engine's server wrote its own, if that isn't in the data directory.
    pub engine: Option<PathBuf>,
}

/// Why there is no copy that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCopied {
    #[error("this node serves no shard, so there is nothing to copy")]
    NotServing,
    #[error("a transition is running here; wait until it has ended, then make the snapshot again")]
    InTransition,
    #[error("the map changed while the copy was made; remove it, then make the snapshot again")]
    MapChanged,
    #[error("the destination {0:?} is not an absolute path; name a folder of each shard's machine")]
    NotAbsolute(PathBuf),
    #[error("{0:?} exists already; name a folder that doesn't hold a snapshot yet")]
    Exists(PathBuf),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{what} can't be copied: {why}; remove what there is of the copy")]
    Files { what: PathBuf, why: String },
}

impl GateHost {
    /// Names the files of the data directory that aren't the engine's, for copies.
    pub fn copy_with_snapshots(&self, files: Vec<PathBuf>) {
        // Said once, by whoever put the gate together.
        let _ = self.shared.files.set(files);
    }

    /// Copies the shard into `destination/shard-<id>`, while requests are served. A write that is answered before this is called
    /// is in it, one that is begun after it has ended is not.
    ///
    /// # Errors
    /// See [`NotCopied`].
    pub async fn snapshot(&self, destination: &Path) -> Result<Copied, NotCopied> {
        if !destination.is_absolute() {
            return Err(NotCopied::NotAbsolute(destination.to_owned()));
        }
        let (version, shard) = self.quiet().await?;
        let data_dir = destination.join(format!("shard-{}", shard.0));
        if data_dir.exists() {
            return Err(NotCopied::Exists(data_dir));
        }
        // Under another name until it is whole, so that nobody starts a shard on half of one.
        let partial = destination.join(format!("shard-{}.partial", shard.0));
        make_folder(&partial).await?;
        let engine = self.shared.engine.snapshot(partial.clone(), data_dir.clone()).await?;
        let files = self.shared.files.get().cloned().unwrap_or_default();
        copy_files(files, partial.clone()).await?;
        if self.quiet().await? != (version, shard) {
            return Err(NotCopied::MapChanged);
        }
        rename(partial, data_dir.clone()).await?;
        Ok(Copied { version, data_dir, engine })
    }

    /// The version and the shard that this gate serves, while no transition runs and it holds nothing else.
    async fn quiet(&self) -> Result<(MapVersion, ShardId), NotCopied> {
        let report = self.report().await.map_err(|_| NotCopied::NotServing)?;
        let (Some(version), Some(shard)) = (report.map_version, report.shard) else {
            return Err(NotCopied::NotServing);
        };
        if report.transition.is_some() || !report.clean {
            return Err(NotCopied::InTransition);
        }
        Ok((version, shard))
    }
}

async fn make_folder(path: &Path) -> Result<(), NotCopied> {
    let path = path.to_owned();
    blocking(move || std::fs::create_dir_all(&path).map_err(|error| failed(&path, &error))).await
}

/// The files are replaced as a whole when they change, so each copy is whole, too.
async fn copy_files(files: Vec<PathBuf>, to: PathBuf) -> Result<(), NotCopied> {
    let copy = move || {
        for file in files {
            let Some(name) = file.file_name() else { continue };
            match std::fs::read(&file) {
                Ok(bytes) => write(&to.join(name), &bytes)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&file, &error)),
            }
        }
        sync_folder(&to)
    };
    blocking(copy).await
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), NotCopied> {
    use std::io::Write;
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| failed(path, &error))
}

fn sync_folder(path: &Path) -> Result<(), NotCopied> {
    let synced = std::fs::File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed(path, &error))
}

async fn rename(from: PathBuf, to: PathBuf) -> Result<(), NotCopied> {
    let rename = move || {
        std::fs::rename(&from, &to).map_err(|error| failed(&to, &error))?;
        to.parent().map_or(Ok(()), sync_folder)
    };
    blocking(rename).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NotCopied> + Send + 'static,
) -> Result<T, NotCopied> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        NotCopied::Engine(EngineError::Unavailable(format!("the copy broke off: {error}")))
    })?
}

fn failed(what: &Path, error: &std::io::Error) -> NotCopied {
    NotCopied::Files { what: what.to_owned(), why: error.to_string() }
}
