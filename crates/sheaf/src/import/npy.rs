//! Reads NumPy's `.npy` files row by row: two-dimensional, C order, float16, float32 or float64.
//!
//! Trusts nothing in the header, and never holds more than one row in memory.

use std::io::Read;

use half::f16;
use sheaf_types::limits::DIM_MAX;

/// Bytes of a header that are read at most. NumPy's own limit for headers that it evaluates.
const HEADER_BYTES_MAX: u32 = 10_000;

/// Why a file can't be read as vectors.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    #[error("it is no .npy file")]
    NotNpy,
    #[error("its header can't be understood: {0}")]
    Header(String),
    #[error("it holds {0}; give float16, float32 or float64, little-endian, in rows (C order)")]
    Unsupported(String),
    #[error("it ends in row {row}, but its header says that there are {rows}")]
    Short { row: u64, rows: u64 },
    #[error("it can't be read: {0}")]
    Io(#[from] std::io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    F16,
    F32,
    F64,
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// The rows of one file.
#[derive(Debug)]
pub struct Npy<R> {
    input: R,
    number: Number,
    rows: u64,
    dim: usize,
    /// The row that is read next.
    next: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Npy<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// The file is something else, or holds what isn't supported.
    pub fn open(mut input: R) -> Result<Self, NpyError> {
        let header = header(&mut input)?;
        let number = match field(&header, "descr")?.trim_matches(['\'', '"']) {
            "<f2" => Number::F16,
            "<f4" => Number::F32,
            "<f8" => Number::F64,
            other => return Err(NpyError::Unsupported(format!("numbers of the kind {other}"))),
        };
        if field(&header, "fortran_order")? != "False" {
            return Err(NpyError::Unsupported("columns (Fortran order)".to_owned()));
        }
        let (rows, dim) = shape(field(&header, "shape")?)?;
        let buffer = vec![0; dim * number.bytes()];
        Ok(Self { input, number, rows, dim, next: 0, buffer })
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The next row; `None` after the last one.
    ///
    /// # Errors
    /// The file ends before its last row, or can't be read.
    pub fn next_row(&mut self) -> Result<Option<Vec<f32>>, NpyError> {
        if self.next == self.rows {
            return Ok(None);
        }
        self.input.read_exact(&mut self.buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                NpyError::Short { row: self.next, rows: self.rows }
            }
            _ => NpyError::Io(error),
        })?;
        self.next += 1;
        Ok(Some(self.decode()))
    }

    fn decode(&self) -> Vec<f32> {
        let chunks = self.buffer.chunks_exact(self.number.bytes());
        let number = self.number;
        chunks
            .map(|chunk| match (number, chunk) {
                (Number::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
                (Number::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
                (Number::F64, &[a, b, c, d, e, f, g, h]) => {
                    f64::from_le_bytes([a, b, c, d, e, f, g, h]) as f32
                }
                _ => f32::NAN,
            })
            .collect()
    }
}

fn header(input: &mut impl Read) -> Result<String, NpyError> {
    let mut start = [0; 8];
    input.read_exact(&mut start).map_err(|_| NpyError::NotNpy)?;
    if !start.starts_with(b"\x93NUMPY") {
        return Err(NpyError::NotNpy);
    }
    let length = match start[6] {
        1 => {
            let mut bytes = [0; 2];
            input.read_exact(&mut bytes)?;
            u32::from(u16::from_le_bytes(bytes))
        }
        2 | 3 => {
            let mut bytes = [0; 4];
            input.read_exact(&mut bytes)?;
            u32::from_le_bytes(bytes)
        }
        version => return Err(NpyError::Header(format!("version {version} is unknown"))),
    };
    if length > HEADER_BYTES_MAX {
        return Err(NpyError::Header(format!("it has {length} bytes")));
    }
    let mut bytes = vec![0; length as usize];
    input.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| NpyError::Header("it is not text".to_owned()))
}

/// The value of one field of the header, a Python dictionary with three fixed fields.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, NpyError> {
    let missing = || NpyError::Header(format!("{name} is missing"));
    let (_, rest) = header.split_once(&format!("'{name}':")).ok_or_else(missing)?;
    let rest = rest.trim_start();
    let end =
        if rest.starts_with('(') { rest.find(')').map(|at| at + 1) } else { rest.find([',', '}']) };
    rest.get(..end.ok_or_else(missing)?).map(str::trim).ok_or_else(missing)
}

fn shape(text: &str) -> Result<(u64, usize), NpyError> {
    let numbers = text.trim_matches(['(', ')']).split(',').map(str::trim);
    let numbers: Vec<&str> = numbers.filter(|number| !number.is_empty()).collect();
    let &[rows, dim] = numbers.as_slice() else {
        return Err(NpyError::Unsupported(format!(
            "an array of shape {text}, not rows of vectors"
        )));
    };
    let wrong = || NpyError::Header(format!("the shape {text} is malformed"));
    let rows: u64 = rows.parse().map_err(|_| wrong())?;
    let dim: u32 = dim.parse().map_err(|_| wrong())?;
    if dim == 0 || dim > DIM_MAX {
        return Err(NpyError::Unsupported(format!(
            "vectors of {dim} numbers; 1 to {DIM_MAX} can be stored"
        )));
    }
    Ok((rows, dim as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn rows_of_all_three_kinds_come_out_as_they_went_in() {
        let values = [1.5f32, -2.0, 0.25, 4.0];
        let f16s: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let f64s: Vec<u8> = values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        for (descr, data) in [("<f2", f16s), ("<f4", f32s), ("<f8", f64s)] {
            let bytes = file(descr, "False", "(2, 2)", &data);
            let mut npy = Npy::open(bytes.as_slice()).unwrap();
            assert_eq!((npy.rows(), npy.dim()), (2, 2));
            assert_eq!(npy.next_row().unwrap(), Some(vec![1.5, -2.0]));
            assert_eq!(npy.next_row().unwrap(), Some(vec![0.25, 4.0]));
            assert_eq!(npy.next_row().unwrap(), None);
        }
    }

    #[test]
    fn a_file_that_is_short_or_of_another_kind_is_refused_with_the_reason() {
        let open = |bytes: &[u8]| Npy::open(bytes).map(|_| ()).unwrap_err().to_string();
        assert_eq!(open(b"PK\x03\x04 a zip archive"), "it is no .npy file");
        assert!(open(&file("<i4", "False", "(1, 2)", &[])).contains("<i4"));
        assert!(open(&file("<f4", "True", "(1, 2)", &[])).contains("Fortran"));
        assert!(open(&file("<f4", "False", "(7,)", &[])).contains("(7,)"));
        assert!(open(&file("<f4", "False", "(1, 0)", &[])).contains("0 numbers"));
        assert!(open(&file("<f4", "False", "(1, 99999999)", &[])).contains("99999999"));
        let bytes = file("<f4", "False", "(2, 1)", &[0; 7]);
        let mut npy = Npy::open(bytes.as_slice()).unwrap();
        assert_eq!(npy.next_row().unwrap(), Some(vec![0.0]));
        assert_eq!(
            npy.next_row().unwrap_err().to_string(),
            "it ends in row 1, but its header says that there are 2"
        );
    }
}
