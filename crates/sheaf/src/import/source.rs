//! Points from files: `.jsonl` (`{id, vector, payload}` a line), or `.npy` beside a `.jsonl` of ids and payloads.
//!
//! Decides whether a row is a point. Says the number of each bad line; never guesses what was meant.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sheaf_types::limits::{DIM_MAX, PAYLOAD_BYTES_MAX, POINT_ID_BYTES_MAX};

use super::Point;
use super::npy::{Npy, NpyError};

/// Bytes of one line: the longest vector with 32 characters a number, and the largest payload and id, escaped.
const LINE_BYTES_MAX: u64 =
    DIM_MAX as u64 * 32 + (PAYLOAD_BYTES_MAX + POINT_ID_BYTES_MAX) as u64 * 6 + 1_024;

/// Why no point could be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{}, line {row}: {why}; correct it, or leave such lines out with --skip-bad", file.display())]
    BadRow { file: PathBuf, row: u64, why: String },
    #[error("{}: {source}", file.display())]
    Vectors { file: PathBuf, source: NpyError },
    #[error("{}: {why}", file.display())]
    File { file: PathBuf, why: String },
}

/// The input of an import.
pub struct Source {
    lines: Lines,
    /// Beside lines without vectors.
    vectors: Option<(PathBuf, Npy<BufReader<File>>)>,
    /// Of the first good row; all must have it.
    dim: Option<usize>,
}

struct Lines {
    file: PathBuf,
    input: BufReader<File>,
    row: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithVector {
    id: String,
    vector: Vec<f32>,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithoutVector {
    id: String,
    #[serde(default)]
    payload: Value,
}

impl Source {
    /// Opens the file, and for `.npy` the file of its rows.
    ///
    /// # Errors
    /// A file can't be opened, is of another kind, or one of the two is missing.
    pub fn open(file: &Path, rows: Option<&Path>) -> Result<Self, SourceError> {
        let refused = |why: &str| SourceError::File { file: file.to_owned(), why: why.to_owned() };
        let kind = file.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        match (kind, rows) {
            ("jsonl" | "ndjson", None) => {
                Ok(Self { lines: Lines::open(file)?, vectors: None, dim: None })
            }
            ("jsonl" | "ndjson", Some(_)) => {
                Err(refused("--rows belongs to a .npy file; a .jsonl has ids and payloads itself"))
            }
            ("npy", Some(rows)) => {
                let input = BufReader::with_capacity(1 << 20, open(file)?);
                let npy = Npy::open(input)
                    .map_err(|source| SourceError::Vectors { file: file.to_owned(), source })?;
                let dim = Some(npy.dim());
                Ok(Self { lines: Lines::open(rows)?, vectors: Some((file.to_owned(), npy)), dim })
            }
            ("npy", None) => Err(refused(
                "a .npy file has vectors only; name the .jsonl of their ids and payloads with --rows",
            )),
            _ => Err(refused("only .jsonl and .npy files can be imported")),
        }
    }

    /// Lines read so far, bad and empty ones too.
    pub fn rows_read(&self) -> u64 {
        self.lines.row
    }

    /// Numbers in a vector, when it is known before a row is read.
    pub fn dim(&self) -> Option<usize> {
        self.dim
    }

    /// The next point; `None` at the end.
    ///
    /// # Errors
    /// The row is bad (the next call reads the next one), or a file can't be read on.
    pub fn next_point(&mut self) -> Result<Option<Point>, SourceError> {
        let Some(line) = self.lines.next_line() else {
            return self.end();
        };
        let vector = match &mut self.vectors {
            None => None,
            Some((file, npy)) => match npy.next_row() {
                Ok(Some(vector)) => Some(vector),
                Ok(None) => {
                    let (rows, file) = (npy.rows(), self.lines.file.clone());
                    let why = format!("it has more lines than the {rows} vectors");
                    return Err(SourceError::File { file, why });
                }
                Err(source) => return Err(SourceError::Vectors { file: file.clone(), source }),
            },
        };
        let point = line.and_then(|line| point(&line, vector)).and_then(|point| self.fits(point));
        point.map(Some).map_err(|why| match why {
            Bad::Row(why) => {
                SourceError::BadRow { file: self.lines.file.clone(), row: self.lines.row, why }
            }
            Bad::File(why) => SourceError::File { file: self.lines.file.clone(), why },
        })
    }

    fn end(&mut self) -> Result<Option<Point>, SourceError> {
        let Some((_, npy)) = &mut self.vectors else { return Ok(None) };
        if self.lines.row < npy.rows() {
            let why = format!("it has {} lines for {} vectors", self.lines.row, npy.rows());
            return Err(SourceError::File { file: self.lines.file.clone(), why });
        }
        Ok(None)
    }

    fn fits(&mut self, point: Point) -> Result<Point, Bad> {
        let given = point.vector.len();
        let dim = *self.dim.get_or_insert(given);
        if given != dim {
            return Err(Bad::Row(format!(
                "the vector has {given} numbers, the first one had {dim}"
            )));
        }
        Ok(point)
    }
}

enum Bad {
    Row(String),
    File(String),
}

impl Lines {
    fn open(file: &Path) -> Result<Self, SourceError> {
        let input = BufReader::with_capacity(1 << 20, open(file)?);
        Ok(Self { file: file.to_owned(), input, row: 0 })
    }

    /// `None` at the end of the file.
    fn next_line(&mut self) -> Option<Result<Vec<u8>, Bad>> {
        let mut line = Vec::new();
        let read = (&mut self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return None,
            Ok(_) => self.row += 1,
            Err(error) => return Some(Err(Bad::File(format!("it can't be read: {error}")))),
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
            let why = format!("line {} is longer than {LINE_BYTES_MAX} bytes", self.row);
            return Some(Err(Bad::File(why)));
        }
        Some(Ok(line))
    }
}

fn open(file: &Path) -> Result<File, SourceError> {
    File::open(file).map_err(|error| SourceError::File {
        file: file.to_owned(),
        why: format!("it can't be opened: {error}"),
    })
}

fn point(line: &[u8], vector: Option<Vec<f32>>) -> Result<Point, Bad> {
    let malformed = |error: serde_json::Error| Bad::Row(format!("it is no point ({error})"));
    let point = match vector {
        Some(vector) => {
            let row: WithoutVector = serde_json::from_slice(line).map_err(malformed)?;
            Point { id: row.id, vector, payload: row.payload }
        }
        None => {
            let row: WithVector = serde_json::from_slice(line).map_err(malformed)?;
            Point { id: row.id, vector: row.vector, payload: row.payload }
        }
    };
    if !point.payload.is_null() && !point.payload.is_object() {
        return Err(Bad::Row("the payload is not an object".to_owned()));
    }
    if point.id.len() > POINT_ID_BYTES_MAX {
        let (given, limit) = (point.id.len(), POINT_ID_BYTES_MAX);
        return Err(Bad::Row(format!("the id has {given} bytes, at most {limit} can be stored")));
    }
    if point.vector.is_empty() {
        return Err(Bad::Row("the vector has no numbers".to_owned()));
    }
    if let Some(at) = point.vector.iter().position(|number| !number.is_finite()) {
        return Err(Bad::Row(format!("number {at} of the vector is not finite")));
    }
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonl(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("points.jsonl");
        std::fs::write(&file, text).unwrap();
        (dir, file)
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_and_the_next_one_can_be_read() {
        let (_dir, file) = jsonl(
            "{\"id\":\"a\",\"vector\":[1,2]}\n{\"id\":\"b\",\"vector\":[1]}\nnonsense\n\
             {\"id\":\"c\",\"vector\":[1,2],\"payload\":3}\n{\"id\":\"d\",\"vector\":[1,1e39]}\n{\"id\":\"\",\"vector\":[3,4],\"payload\":{}}",
        );
        let mut source = Source::open(&file, None).unwrap();
        assert_eq!(source.next_point().unwrap().unwrap().id, "a");
        for (row, why) in [(2, "1 numbers"), (3, "no point"), (4, "not an object"), (5, "")] {
            let error = source.next_point().unwrap_err().to_string();
            assert!(error.contains(&format!("line {row}: ")) && error.contains(why), "{error}");
        }
        assert_eq!(source.next_point().unwrap().unwrap().vector, [3.0, 4.0]);
        assert!(source.next_point().unwrap().is_none());
    }

    #[test]
    fn vectors_and_rows_must_be_equally_many() {
        let dir = tempfile::tempdir().unwrap();
        let (npy, rows) = (dir.path().join("v.npy"), dir.path().join("r.jsonl"));
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[0; 8]);
        std::fs::write(&npy, bytes).unwrap();
        for (lines, fits) in [(1, false), (2, true), (3, false)] {
            std::fs::write(&rows, "{\"id\":\"a\"}\n".repeat(lines)).unwrap();
            let mut source = Source::open(&npy, Some(&rows)).unwrap();
            let read = std::iter::from_fn(|| source.next_point().transpose()).take(5);
            assert_eq!(read.collect::<Result<Vec<_>, _>>().is_ok(), fits, "{lines} lines");
        }
        assert!(Source::open(&npy, None).is_err());
    }
}
