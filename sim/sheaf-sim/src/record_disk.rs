//! The disk below a record's file: the power goes in the middle of a write, a bit flips at rest. The real file store writes and reads it.
//!
//! Decides what a crash leaves of a write. What a start makes of that is the store's own decision; whether it was right, the world's.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_stores::{Disk, FileStore, NotKept, RecordStore, StoreError};
use sheaf_types::mark;

use crate::dice::{Dice, Purpose};

/// The name of the record's file.
const NAME: &str = "record";
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// The disk's calls that change something while a record is written: its content, its name, the folder.
const WRITE_CALLS: u64 = 3;

/// A disk with one record, taken out of its machine.
#[derive(Clone, Debug)]
pub struct RecordDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// The files as a running process sees them.
    files: BTreeMap<String, Vec<u8>>,
    /// The names that are durable, with what they name.
    durable: BTreeMap<String, Vec<u8>>,
    /// Calls until the power goes; `None`: it stays.
    calls_left: Option<u64>,
    /// A bit of the record's file that is read wrongly.
    flipped: Option<usize>,
    dice: Dice,
}

/// What is left of a write during which the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The store had said that the record is durable.
    pub confirmed: bool,
    /// The file isn't what it was before.
    pub changed: bool,
}

impl RecordDisk {
    /// A disk that durably holds this record; its chance comes from `number`.
    ///
    /// # Errors
    /// The store doesn't take it.
    pub fn holding<T: Serialize + DeserializeOwned>(
        record: &T,
        number: u64,
    ) -> Result<Self, StoreError> {
        let disk = Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            durable: BTreeMap::new(),
            calls_left: None,
            flipped: None,
            dice: Dice::new(number, Purpose::Disks, 0),
        })));
        disk.write(record, None)?.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(disk)
    }

    /// Writes this record and takes the power away at some moment of that.
    ///
    /// # Errors
    /// The store can't read what is there already.
    pub fn write_at_power_cut<T: Serialize + DeserializeOwned>(
        &self,
        record: &T,
    ) -> Result<Leftover, StoreError> {
        let before = self.lock().files.get(NAME).cloned();
        let calls = self.lock().dice.below(WRITE_CALLS + 1);
        let confirmed = self.write(record, Some(calls))?.is_ok();
        let mut state = self.lock();
        state.lose_power();
        Ok(Leftover { confirmed, changed: state.files.get(NAME) != before.as_ref() })
    }

    fn write<T: Serialize + DeserializeOwned>(
        &self,
        record: &T,
        calls_left: Option<u64>,
    ) -> Result<Result<(), NotKept>, StoreError> {
        let store = Arc::new(FileStore::open(self.clone(), NAME)?);
        let (mut records, _) = at_once(RecordStore::<T>::open(store))??;
        self.lock().calls_left = calls_left;
        at_once(records.keep(record))
    }

    /// One bit is read wrongly from now on.
    pub fn flip_a_bit(&self) {
        let mut state = self.lock();
        let bits = state.files.get(NAME).map_or(0, Vec::len) as u64 * 8;
        state.flipped = Some(state.dice.below(bits.max(1)) as usize);
    }

    /// What a process that starts finds.
    ///
    /// # Errors
    /// The store's.
    pub fn read<T: Serialize + DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let store = Arc::new(FileStore::open(self.clone(), NAME)?);
        let (_, record) = at_once(RecordStore::open(store))??;
        Ok(record)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a store on this disk answers: nothing makes it wait.
fn at_once<T>(answer: impl Future<Output = T>) -> Result<T, StoreError> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => {
            Err(StoreError::Unavailable("it waits for a disk that never waits".to_owned()))
        }
    }
}

impl State {
    /// Whether the power is still on for a call that changes something.
    fn works(&mut self) -> bool {
        match &mut self.calls_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// A file has this content now, under its old name if that is durable.
    fn put(&mut self, name: &str, bytes: Vec<u8>) {
        if let Some(durable) = self.durable.get_mut(name) {
            durable.clone_from(&bytes);
        }
        self.files.insert(name.to_owned(), bytes);
    }

    /// Some sectors of the new content, and zeros for the others; perhaps not all of its length.
    fn torn(&mut self, bytes: &[u8]) -> Vec<u8> {
        let length = match self.dice.chance(0.5) {
            true => bytes.len(),
            false => self.dice.below(bytes.len() as u64 + 1) as usize,
        };
        let mut torn = bytes[..length].to_vec();
        for sector in torn.chunks_mut(SECTOR_BYTES) {
            if self.dice.chance(0.5) {
                sector.fill(0);
            }
        }
        torn
    }

    /// Names that aren't durable may be there or not.
    fn lose_power(&mut self) {
        self.calls_left = None;
        let renamed = self.files.get(NAME) != self.durable.get(NAME);
        if self.dice.chance(0.5) {
            mark!(renamed, "a record's new name is lost when the power goes");
            self.files.clone_from(&self.durable);
        } else {
            self.durable.clone_from(&self.files);
        }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for RecordDisk {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.lock();
        let mut bytes = state.files.get(name).cloned();
        if let (Some(bit), Some(bytes)) = (state.flipped.filter(|_| name == NAME), &mut bytes)
            && let Some(byte) = bytes.get_mut(bit / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
        Ok(bytes)
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        if state.calls_left == Some(0) {
            mark!("a record is torn when the power goes");
            let torn = state.torn(bytes);
            state.put(name, torn);
        }
        if !state.works() {
            return Err(power_is_off());
        }
        state.put(name, bytes.to_vec());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        if !state.works() {
            return Err(power_is_off());
        }
        let bytes = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        if state.calls_left == Some(0) {
            return Err(power_is_off());
        }
        state.files.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.lock();
        if !state.works() {
            return Err(power_is_off());
        }
        state.durable = state.files.clone();
        Ok(())
    }

    fn place(&self, name: &str) -> String {
        format!("simulated:/{name}")
    }

    fn is_slow(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Record = BTreeMap<String, u64>;

    fn record(value: u64) -> Record {
        (0..200).map(|key| (format!("key-{key}"), value)).collect()
    }

    #[test]
    fn after_a_power_cut_the_record_is_the_old_or_the_new_one_and_both_happen_torn_writes_too() {
        let mut found = BTreeMap::new();
        for number in 0..400 {
            let disk = RecordDisk::holding(&record(1), number).expect("there is room");
            let left = disk.write_at_power_cut(&record(2)).expect("the old record is whole");
            let there = disk.read::<Record>().expect("it is whole");
            assert_eq!(there, Some(record(if left.changed { 2 } else { 1 })), "{number}: {left:?}");
            assert!(!left.confirmed || left.changed, "{number}: said to be durable, and gone");
            *found.entry((left.confirmed, left.changed)).or_insert(0) += 1;
        }
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.values().all(|times| *times > 30), "{found:?}");
        let hit = sheaf_types::marks::take();
        assert!(hit["a record is torn when the power goes"] > 30);
        assert!(hit["a record's new name is lost when the power goes"] > 30);
    }

    #[test]
    fn a_flipped_bit_is_refused_wherever_it_is() {
        for number in 0..400 {
            let disk = RecordDisk::holding(&record(1), number).expect("there is room");
            disk.flip_a_bit();
            let refused = disk.read::<Record>();
            assert!(matches!(refused, Err(StoreError::Damaged(_))), "{number}: {refused:?}");
        }
    }
}
