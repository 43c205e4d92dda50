//! Remembers beside the input how far an import came, so that it can go on after it was stopped.
//!
//! Goes on only with the same bytes into the same collection. Never touches the input.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::client::Failure;

/// What an import is about: another input or collection is another import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    pub collection: String,
    /// Bytes and hash of the files.
    pub bytes: u64,
    pub xxh3_128: String,
}

impl Subject {
    /// Reads the files once.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn of(collection: &str, files: &[&Path]) -> Result<Self, Failure> {
        let mut hasher = XxHash3_128::new();
        let mut total = 0;
        let mut buffer = vec![0; 1 << 20];
        for path in files {
            let failed =
                |error| Failure::Failed(format!("{}: it can't be read: {error}", path.display()));
            let mut file = File::open(path).map_err(failed)?;
            loop {
                let read = file.read(&mut buffer).map_err(failed)?;
                if read == 0 {
                    break;
                }
                hasher.write(&buffer[..read]);
                total += read as u64;
            }
        }
        let hash = format!("{:032x}", hasher.finish_128());
        Ok(Self { collection: collection.to_owned(), bytes: total, xxh3_128: hash })
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    subject: Subject,
    rows: u64,
}

/// The file `<input>.sheaf-import`.
pub struct ProgressFile {
    path: PathBuf,
    subject: Subject,
}

impl ProgressFile {
    pub fn beside(input: &Path, subject: Subject) -> Self {
        let mut name = input.as_os_str().to_owned();
        name.push(".sheaf-import");
        Self { path: PathBuf::from(name), subject }
    }

    /// Rows that an earlier run loaded; 0 when there was none.
    ///
    /// # Errors
    /// The file is about something else, or can't be read.
    pub fn rows_done(&self) -> Result<u64, Failure> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", self.path.display()))),
        };
        let record: Option<Record> = serde_json::from_str(&text).ok();
        match record {
            Some(record) if record.subject == self.subject => Ok(record.rows),
            Some(_) | None => Err(Failure::Failed(format!(
                "{} is about another input or collection (or is damaged), so it doesn't say where to go on; begin \
                 from the start with --restart",
                self.path.display()
            ))),
        }
    }

    /// Writes down that the first `rows` rows are loaded. Atomic: a reader sees the old text or the new one.
    ///
    /// # Errors
    /// The folder can't be written to.
    pub fn store(&self, rows: u64) -> Result<(), Failure> {
        let failed = |error| Failure::Failed(format!("{}: {error}", self.path.display()));
        let record = Record { subject: self.subject.clone(), rows };
        let text = serde_json::to_vec(&record).map_err(|error| failed(error.into()))?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let mut file = File::create(&temporary).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        std::fs::rename(&temporary, &self.path).map_err(failed)
    }

    /// The import has ended, or begins from the start.
    ///
    /// # Errors
    /// The file is there and can't be deleted.
    pub fn remove(&self) -> Result<(), Failure> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::Failed(format!("{}: {error}", self.path.display())))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_goes_on_with_the_same_input_only() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("a.jsonl");
        std::fs::write(&input, "one").unwrap();
        let subject = |collection| Subject::of(collection, &[&input]).unwrap();
        let file = ProgressFile::beside(&input, subject("c"));
        assert_eq!(file.rows_done(), Ok(0));
        file.store(7).unwrap();
        assert_eq!(file.rows_done(), Ok(7));
        assert!(ProgressFile::beside(&input, subject("d")).rows_done().is_err());
        std::fs::write(&input, "two").unwrap();
        assert!(ProgressFile::beside(&input, subject("c")).rows_done().is_err());
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.rows_done(), Ok(0));
    }
}
