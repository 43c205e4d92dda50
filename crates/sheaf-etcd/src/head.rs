//! The layout in etcd: a small head that names the current record, and the record's bytes in pages beside it.
//!
//! `PREFIX/head` is compared and replaced; `PREFIX/record/FOLDER/N` are the pages of one write; `PREFIX/unfinished/FOLDER` stands
//! while the pages of a write that is too large for one transaction are written. No two writes have the same folder.
//! `PREFIX/leader/NAME` are the keys of the processes that stand for election, the oldest one the leader's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_stores::Etag;
use twox_hash::XxHash3_128;

/// Bytes of a page. Source: etcd takes requests of 1.5 MiB; two pages and their keys are well below.
pub const PAGE_BYTES_MAX: usize = 512 * 1024;
/// Pages that are written in one transaction: a record of so many is stored in one round trip, with its head.
pub const PAGES_A_WRITE_MAX: usize = 2;
/// Pages that are read in one transaction. Source: a client takes answers of 4 MiB.
pub const PAGES_A_READ_MAX: usize = 4;
/// Bytes of a record. Source: a transaction has 128 operations at most, and one deletes all pages of the record that it replaces.
pub const RECORD_BYTES_MAX: usize = 64 * PAGE_BYTES_MAX;
const _: () = assert!(RECORD_BYTES_MAX / PAGE_BYTES_MAX + PAGES_A_WRITE_MAX + 2 <= 128);

/// The form of the head that this version reads and writes.
const FORMAT: u32 = 1;

/// What the head key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    format: u32,
    /// Grows with each replacement, so no text of a head comes back once it was replaced.
    pub epoch: u64,
    /// Which write put it there: no other has this name.
    pub by: String,
    /// `None`: no record was stored yet.
    pub record: Option<Record>,
    /// Of all fields before.
    check: String,
}

/// Where the bytes of a record are, and what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The epoch of the head with which it was stored: its etag. A head that was only renewed keeps it.
    pub epoch: u64,
    pub folder: String,
    pub length: usize,
    checksum: String,
}

impl Record {
    pub fn new(epoch: u64, folder: String, bytes: &[u8]) -> Self {
        Self { epoch, folder, length: bytes.len(), checksum: hex(bytes) }
    }

    pub fn etag(&self) -> Etag {
        Etag(self.epoch)
    }

    pub fn pages(&self) -> usize {
        self.length.div_ceil(PAGE_BYTES_MAX)
    }

    /// Whether these are its bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() && self.checksum == hex(bytes)
    }
}

impl Head {
    pub fn new(epoch: u64, by: String, record: Option<Record>) -> Self {
        let mut head = Self { format: FORMAT, epoch, by, record, check: String::new() };
        head.check = head.sum();
        head
    }

    fn sum(&self) -> String {
        let record = self.record.as_ref().map(|record| {
            format!("{}|{}|{}|{}", record.epoch, record.folder, record.length, record.checksum)
        });
        let fields = format!("{}|{}|{}|{record:?}", self.format, self.epoch, self.by);
        hex(fields.as_bytes())
    }

    /// The etag of its record.
    pub fn etag(&self) -> Option<Etag> {
        self.record.as_ref().map(Record::etag)
    }

    /// The head as it is stored.
    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers can be written down")
    }

    /// The head in a value, or what is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let form: Form = serde_json::from_slice(text)
            .map_err(|error| format!("is no head of a record of Sheaf, or damaged: {error}"))?;
        if form.format != FORMAT {
            return Err(format!(
                "has the format {}, this version of Sheaf reads format {FORMAT}: start the version that wrote it",
                form.format
            ));
        }
        let head: Self =
            serde_json::from_slice(text).map_err(|error| format!("is damaged: {error}"))?;
        if head.check != head.sum() {
            return Err("is damaged: its checksum differs".to_owned());
        }
        Ok(head)
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("{:032x}", XxHash3_128::oneshot(bytes))
}

/// The pages of a record.
pub fn pages(bytes: &Bytes) -> Vec<Bytes> {
    let starts = (0..bytes.len()).step_by(PAGE_BYTES_MAX);
    starts.map(|at| bytes.slice(at..bytes.len().min(at + PAGE_BYTES_MAX))).collect()
}

/// The keys under one prefix.
#[derive(Clone, Debug)]
pub struct Keys(pub String);

impl Keys {
    pub fn head(&self) -> String {
        format!("{}/head", self.0)
    }

    pub fn page(&self, folder: &str, number: usize) -> String {
        format!("{}/record/{folder}/{number}", self.0)
    }

    pub fn unfinished(&self, folder: &str) -> String {
        format!("{}/unfinished/{folder}", self.0)
    }

    /// The key of a process that stands for election.
    pub fn standing(&self, name: &str) -> String {
        format!("{}/leader/{name}", self.0)
    }

    /// What all keys of those begin with.
    pub fn all_standing(&self) -> String {
        self.standing("")
    }

    /// What all keys of unfinished writes begin with.
    pub fn all_unfinished(&self) -> String {
        self.unfinished("")
    }
}

/// The folder of a write: begins with the epoch that its head would have.
pub fn folder(epoch: u64, by: &str) -> String {
    format!("{epoch}-{by}")
}

/// The epoch in a folder's name; `None`: it isn't the name of one.
pub fn epoch_of(folder: &str) -> Option<u64> {
    folder.split_once('-').and_then(|(epoch, _)| epoch.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let record = Record::new(7, folder(7, "w-1"), b"record");
        Head::new(8, "w-2".to_owned(), Some(record))
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        assert_eq!(Head::read(&head().text()), Ok(head()));
        let empty = Head::new(1, "w-1".to_owned(), None);
        assert_eq!(Head::read(&empty.text()), Ok(empty));
    }

    #[test]
    fn a_head_that_was_changed_is_never_believed() {
        let text = String::from_utf8(head().text()).unwrap();
        for (from, to) in
            [("\"epoch\":8", "\"epoch\":9"), ("w-2", "w-3"), ("\"length\":6", "\"length\":5")]
        {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            assert!(Head::read(changed.as_bytes()).unwrap_err().contains("checksum"), "{changed}");
        }
        let cut = &text.as_bytes()[..text.len() - 1];
        assert!(Head::read(cut).unwrap_err().contains("damaged"));
        let later = text.replace("\"format\":1", "\"format\":2");
        assert!(Head::read(later.as_bytes()).unwrap_err().contains("start the version"));
    }

    #[test]
    fn pages_put_together_are_the_record() {
        for length in [0, 1, PAGE_BYTES_MAX, PAGE_BYTES_MAX + 1, 3 * PAGE_BYTES_MAX] {
            let bytes = Bytes::from(vec![7; length]);
            let pages = pages(&bytes);
            let record = Record::new(1, folder(1, "w"), &bytes);
            assert_eq!(pages.len(), record.pages());
            assert!(record.is(&pages.concat()));
        }
    }

    #[test]
    fn a_folder_tells_the_epoch_of_its_write() {
        assert_eq!(epoch_of(&folder(12, "a-3")), Some(12));
        assert_eq!(epoch_of("x"), None);
    }
}
